"""``engram-bench run``: the whole pipeline."""

from __future__ import annotations

from tests.cli.conftest import Shell

EASY = "--gate=accuracy >= 0%"


def test_every_stage_leaves_its_files(shell: Shell) -> None:
    output = shell("run", EASY, "--skip-demo", "--out", "chat")

    assert [line[:2] for line in output.splitlines() if line[:1].isdigit() and line[1:2] == "."] == [
        "1.",
        "2.",
        "3.",
        "4.",
        "5.",
    ]
    assert (shell.path / "chat" / "train.jsonl").exists()
    assert (shell.path / "reports" / "latest.md").exists()
    assert len(list((shell.path / "adapters").glob("lora-*"))) == 1


def test_gates_decide_the_status(shell: Shell) -> None:
    shell("run", "--gate=accuracy >= +10pp", "--skip-demo", status=1)


def test_mistakes_in_patterns_stop_it_first(shell: Shell) -> None:
    shell.patterns("name: b\n", "b.yaml")

    shell("run", "--skip-demo", status=2)

    assert "patterns/b.yaml: line 1" in shell.errors
    assert not (shell.path / "adapters").exists()
