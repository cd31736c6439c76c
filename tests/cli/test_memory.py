"""``engram-bench memory list|explain|remove|add``."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.cli.conftest import Shell
from tests.tiny_models import TINY_MODELS


@pytest.fixture
def flags(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = TINY_MODELS["llama"](tmp_path_factory.mktemp("model") / "tiny")
    return ["--backend", "cpu", "--model", str(folder)]


@pytest.fixture
def name(shell: Shell, flags: list[str]) -> str:
    found: str = shell.json("train", "--kind", "memory", "--steps", "40", *flags)["name"]
    return found


def test_an_edited_memory_is_a_new_adapter(shell: Shell, name: str, flags: list[str]) -> None:
    patterns = [row["pattern"] for row in shell.json("memory", "list", name)]
    assert name.startswith("memory-")
    assert len(patterns) > 1

    less = shell.json("memory", "remove", name, patterns[0])["adapter"]
    assert [row["pattern"] for row in shell.json("memory", "list", less)] == patterns[1:]

    again = shell.json("memory", "add", less, "--steps", "2", *flags)["adapter"]
    assert {row["pattern"] for row in shell.json("memory", "list", again)} == set(patterns)
    assert {row["name"] for row in shell.json("adapter", "list")} == {name, less, again}


def test_the_lora_of_both_stays_beside_an_edited_memory(shell: Shell, flags: list[str]) -> None:
    name = shell.json("train", "--kind", "both", "--steps", "4", *flags)["name"]
    pattern = shell.json("memory", "list", name)[0]["pattern"]

    less = shell.json("memory", "remove", name, pattern)["adapter"]

    adapters = shell.path / "adapters"
    assert less.startswith("both-")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (adapters / less / file).read_bytes() == (adapters / name / file).read_bytes()


def test_explain_shows_the_rows_of_an_answer(shell: Shell, name: str, flags: list[str]) -> None:
    output = shell("memory", "explain", name, "Port of SSH?", "--answer", "22", *flags)

    assert "'2'" in output
    assert "port-ssh" in output


def test_explain_keeps_the_keys_of_its_json(shell: Shell, name: str, flags: list[str]) -> None:
    document = shell.json("memory", "explain", name, "Port of SSH?", "--answer", "22", *flags)

    assert list(document) == ["prompt", "answer", "read_as", "places"]
    assert list(document["read_as"]) == ["question", "nearness", "threshold", "nobodys"]


def test_a_lora_has_no_patterns_to_list(shell: Shell) -> None:
    lora = shell.json("train")["name"]

    shell("memory", "list", lora, status=3)

    assert "memory.json: not found or not readable, expected a memory" in " ".join(shell.errors.split())


def test_an_unknown_pattern_is_named(shell: Shell, name: str) -> None:
    shell("memory", "remove", name, "nobody", status=3)

    assert "no pattern 'nobody'" in shell.errors


def test_nothing_is_left_beside_the_adapters(shell: Shell, name: str) -> None:
    pattern = shell.json("memory", "list", name)[0]["pattern"]
    shell.json("memory", "remove", name, pattern)

    partial = [path.name for path in Path(shell.path / "adapters" / ".partial").iterdir()]
    assert partial == []
