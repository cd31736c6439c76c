"""``engram-bench adapter list|show|export|import|prune``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from engram_bench.adapters.layout import LoraUpdate, write_peft
from engram_bench.records import Recipe
from tests.cli.conftest import Shell
from tests.tiny_models import TINY_MODELS


@pytest.fixture
def names(shell: Shell) -> list[str]:
    return [shell.json("train", "--steps", steps)["name"] for steps in ("1", "2", "3")]


def test_list_has_every_adapter(shell: Shell, names: list[str]) -> None:
    found = shell.json("adapter", "list")
    output = shell("adapter", "list")

    assert {each["name"] for each in found} == set(names)
    assert all(name in output for name in names)


def test_no_adapters_yet_is_no_error(shell: Shell) -> None:
    assert "engram-bench train makes one" in shell("adapter", "list")
    assert shell.json("adapter", "list") == []


def test_show_takes_the_start_of_a_name(shell: Shell, names: list[str]) -> None:
    about = shell.json("adapter", "show", names[1][:-2])

    assert (about["name"], about["recipe"]["steps"]) == (names[1], 2)
    assert names[1] in shell("adapter", "show", names[1])


@pytest.mark.parametrize("name", ["lora", "nothing"])
def test_name_of_no_one_adapter_lists_them(shell: Shell, names: list[str], name: str) -> None:
    shell("adapter", "show", name, status=2)

    assert all(each in shell.errors for each in names)


def test_prune_keeps_what_it_is_told_to(shell: Shell, names: list[str]) -> None:
    report = shell.json("adapter", "prune", "--newest=0", f"--keep={names[0]}", "--yes")

    assert sorted(report["removed"]) == sorted(names[1:])
    assert [each["name"] for each in shell.json("adapter", "list")] == [names[0]]


def test_dry_run_deletes_nothing(shell: Shell, names: list[str]) -> None:
    output = shell("adapter", "prune", "--newest=0", "--dry-run")

    assert output.count("would delete lora-") == 3
    assert len(shell.json("adapter", "list")) == 3


def test_prune_without_a_terminal_names_what_it_would_delete_and_refuses(shell: Shell, names: list[str]) -> None:
    output = shell("adapter", "prune", "--newest=0", status=2)

    assert all(f"would delete {name}" in output for name in names)
    assert "expected --yes" in shell.errors
    assert len(shell.json("adapter", "list")) == 3


@pytest.mark.parametrize(("typed", "left"), [("y\n", 0), ("yes\n", 0), ("\n", 3), ("n\n", 3), ("", 3)])
def test_prune_asks_on_a_terminal(
    shell: Shell, names: list[str], monkeypatch: pytest.MonkeyPatch, typed: str, left: int
) -> None:
    terminal = io.StringIO(typed)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    output = shell("adapter", "prune", "--newest=0")

    assert "delete these 3 adapters? [y/N]" in output
    assert len(list((shell.path / "adapters").glob("lora-*"))) == left


def test_prune_asks_nothing_where_there_is_nothing_to_delete(shell: Shell, names: list[str]) -> None:
    assert "3 kept" in shell("adapter", "prune", "--newest=3")


def test_broken_manifest_is_named_and_the_others_listed(shell: Shell, names: list[str]) -> None:
    (shell.path / "adapters" / names[0] / "manifest.json").write_text("{", "utf-8")

    found = shell.json("adapter", "list")

    assert {each["name"] for each in found} == set(names[1:])
    assert "left out: " in shell.errors


@pytest.fixture
def tiny(shell: Shell) -> tuple[str, str]:
    """A tiny model's folder and an adapter for it in PEFT's layout."""
    model = TINY_MODELS["llama"](shell.path / "tiny")
    folder = shell.path / "peft"
    folder.mkdir()
    random = np.random.default_rng(0)
    name = "model.layers.0.self_attn.q_proj"
    update = LoraUpdate(
        random.standard_normal((4, 64)).astype(np.float32), random.standard_normal((64, 4)).astype(np.float32), 2.0
    )
    write_peft(folder, {name: update}, Recipe(rank=4, alpha=8.0), base="tiny")
    return str(model), str(folder)


def test_adapter_comes_in_and_goes_out_again(shell: Shell, tiny: tuple[str, str]) -> None:
    model, folder = tiny

    shell("adapter", "import", folder, "--name", "mine", "--model", model)
    report = shell.json("adapter", "export", "mine", "out", "--format", "mlx")

    assert [each["name"] for each in shell.json("adapter", "list")] == ["mine"]
    assert sorted(report["files"]) == ["out/adapter_config.json", "out/adapters.safetensors"]


def test_imported_adapter_is_asked_for_by_its_name(shell: Shell, tiny: tuple[str, str]) -> None:
    model, folder = tiny

    output = shell("adapter", "import", folder, "--name", "mine", "--model", model)

    assert "ask it with: --adapter mine, or pytest --engram-adapter=mine" in output
    assert shell.json("adapter", "show", "mine")["foreign"]


def test_import_says_where_a_library_computes_the_adapter(shell: Shell, tiny: tuple[str, str]) -> None:
    model, folder = tiny
    path = Path(folder) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))

    output = shell("adapter", "import", folder, "--name", "mine", "--model", model)

    assert "note: use_dora is True: PEFT itself computes the adapter" in output


def test_whole_model_is_answered_with_the_command_that_takes_it(shell: Shell, tiny: tuple[str, str]) -> None:
    shell("adapter", "import", tiny[0], "--model", tiny[0], status=3)

    assert f"engram-bench eval --model {tiny[0]} --adapter none" in shell.errors


def test_export_overwrites_nothing(shell: Shell, tiny: tuple[str, str]) -> None:
    model, folder = tiny

    shell("adapter", "export", folder, "peft", "--model", model, status=2)

    assert "peft is there already" in shell.errors


def test_import_of_nothing_says_so(shell: Shell, tiny: tuple[str, str]) -> None:
    (shell.path / "empty").mkdir()

    shell("adapter", "import", "empty", "--model", tiny[0], status=3)

    assert "empty" in shell.errors
