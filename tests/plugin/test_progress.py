"""What pytest shows while models are trained and asked: a line on a terminal, next to nothing in a log."""

from __future__ import annotations

import pytest

from engram_bench.plugin.progress import terminal_progress
from tests.conftest import BenchProject


@pytest.mark.parametrize(
    ("arguments", "is_shown"),
    [((), False), (("-v",), True), (("--color=yes",), True), (("--color=yes", "-q"), False)],
    ids=["log", "verbose-log", "terminal", "quiet-terminal"],
)
def test_progress_is_for_terminals_and_who_asks(
    project: BenchProject, arguments: tuple[str, ...], is_shown: bool
) -> None:
    result = project.run("-m", "accuracy", *arguments)

    assert ("engram-bench: train" in result.stdout.str()) is is_shown


def test_a_log_hears_of_a_damaged_store(project: BenchProject) -> None:
    (project.path / "cache").mkdir()
    (project.path / "cache" / "completions.sqlite").write_bytes(b"no database" * 1000)

    result = project.run("-m", "accuracy")

    result.stdout.fnmatch_lines(["engram-bench: store*completions.sqlite*"])


def test_a_message_stays_on_a_terminal(pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]) -> None:
    config = pytester.parseconfigure("--color=yes", "-s")
    show = terminal_progress(config)

    show("train", 1, 2, "loss 2.81")
    show("machine", 1, 1, "bfloat16 is slow here")
    show("train", 2, 2, "loss 1.20")

    assert "\nengram-bench: machine, bfloat16 is slow here\n" in capsys.readouterr().out
