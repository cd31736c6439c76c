"""The bar on stderr: there while a stage is at work on a terminal, and at no other time."""

from __future__ import annotations

import io
import sys

import pytest

from engram_bench.cli.console import StageBars, clear_progress, progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error from here on; no fixture, because pytest's capturing puts its own in place before the test."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    return made


def test_stage_is_shown_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)

    with progress() as show:
        show("train", 1, 3, "loss 2.81")
        show("train", 2, 3, "loss 1.20 [bold]\x1b[2J")
        clear_progress(show)

    assert "train" in terminal.getvalue()
    assert "loss 1.20 [bold]" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


@pytest.mark.parametrize("ending", [("train", 3, 3, ""), ("answer", 1, 1, "")], ids=["last-state", "other-stage"])
def test_nothing_touches_the_terminal_between_stages(
    monkeypatch: pytest.MonkeyPatch, ending: tuple[str, int, int, str]
) -> None:
    a_terminal(monkeypatch)
    bars = StageBars()
    bars("train", 1, 3, "")
    bars(*ending)

    assert bars._bars is None


@pytest.mark.parametrize("quiet", [True, False])
def test_no_terminal_or_quiet_means_nothing(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    if quiet:
        a_terminal(monkeypatch)
    else:
        monkeypatch.setattr(sys, "stderr", io.StringIO())

    with progress(quiet=quiet) as show:
        show("train", 1, 3, "loss 2.81")

    assert sys.stderr.getvalue() == ""  # type: ignore[union-attr]


def test_a_message_is_a_line_wherever_stderr_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    with progress() as show:
        show("train", 1, 3, "loss 2.81")
        show("wait", 0, 1, "another process trains this adapter")
    on_terminal = terminal.getvalue()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(quiet=True) as show:
        show("wait", 0, 1, "another process trains this adapter")

    assert "engram-bench: another process trains this adapter\n" in on_terminal
    assert sys.stderr.getvalue() == "engram-bench: another process trains this adapter\n"  # type: ignore[union-attr]
