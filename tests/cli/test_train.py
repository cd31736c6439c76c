"""``engram-bench train``."""

from __future__ import annotations

from tests.cli.conftest import Shell


def test_adapter_is_trained_once_and_then_found(shell: Shell) -> None:
    first, second = shell.json("train"), shell.json("train")

    assert first["name"] == second["name"]
    assert first["training"]["steps"] == 3
    assert (shell.path / "adapters" / first["name"] / "manifest.json").exists()


def test_another_recipe_is_another_adapter(shell: Shell) -> None:
    assert shell.json("train")["name"] != shell.json("train", "--steps", "4")["name"]


def test_pytest_finds_the_same_adapter(shell: Shell) -> None:
    name = shell.json("train")["name"]

    report = shell.json("eval", "--gate=accuracy >= 0%")

    assert report["provenance"]["adapter"] == name


def test_words_say_how_the_training_went(shell: Shell) -> None:
    output = shell("train")

    assert "trained: 3 steps" in output
    assert "loss 1.00 → 0.00, recall 100.0 %" in output


def test_backend_that_is_not_there_is_a_usage_error(shell: Shell) -> None:
    shell("train", "--backend", "tpu", status=2)

    assert "got 'tpu', expected one of auto, cpu" in shell.errors


def test_damaged_adapter_is_named_and_not_trained_over(shell: Shell) -> None:
    folder = shell.path / "adapters" / shell.json("train")["name"]
    (folder / "adapter_model.safetensors").write_bytes(b"cut")

    shell("train", status=3)

    assert "adapter_model.safetensors: 3 bytes, expected" in shell.errors
