"""``engram-bench cache``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell


def test_empty_cache_is_no_error(shell: Shell) -> None:
    report = shell.json("cache")

    assert report == {
        "folder": str(shell.path / "cache"),
        "completions": 0,
        "completions_bytes": 0,
        "models": {},
    }


def test_completions_are_counted_and_cleared(shell: Shell) -> None:
    shell("eval", "--gate=accuracy >= 0%")

    assert shell.json("cache")["completions"] >= 4
    assert shell.json("cache", "--clear", "completions")["completions"] == 0


def test_models_are_listed_and_cleared(shell: Shell) -> None:
    (shell.path / "cache" / "models" / "gguf-1").mkdir(parents=True)
    (shell.path / "cache" / "models" / "gguf-1" / "model.safetensors").write_bytes(b"12345")

    assert shell.json("cache")["models"] == {"gguf-1": 5}
    assert "gguf-1, 0.0 MB" in shell("cache")
    assert shell.json("cache", "--clear", "models")["models"] == {}


def test_unknown_part_is_a_usage_error(shell: Shell) -> None:
    shell("cache", "--clear", "everything", status=2)

    assert "everything" in shell.errors


@pytest.mark.parametrize("width", ["40", "200"])
def test_any_width_is_enough(shell: Shell, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)

    assert "completions  0" in shell("cache")
