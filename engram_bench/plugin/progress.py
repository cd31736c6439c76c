"""Progress on pytest's terminal while a model is fetched, trained and asked."""

from __future__ import annotations

import time
from contextlib import nullcontext

import pytest

from engram_bench.door import printable
from engram_bench.plugin.outlet import progress
from engram_bench.system.progress import MESSAGES, Progress, no_progress

REDRAW_S = 0.2
"""Shortest time between two states of the line on a terminal."""
REPORT_S = 20.0
"""Shortest time between two lines where output is a file or a pipe."""


def terminal_progress(config: pytest.Config) -> Progress:
    """Progress on pytest's terminal: one line redrawn where it is one, else messages alone, or with ``-v`` a line now and then.

    Silent with ``-q`` and in xdist workers, which have no terminal.
    """
    if config.pluginmanager.get_plugin("terminalreporter") is None or config.get_verbosity() < 0:
        return no_progress
    return no_progress if hasattr(config, "workerinput") else StageProgress(config)


class StageProgress:
    """Writes through pytest's terminal writer, around its capturing."""

    def __init__(self, config: pytest.Config) -> None:
        self._writer = config.get_terminal_writer()
        self._capture = config.pluginmanager.get_plugin("capturemanager")
        self._is_terminal = bool(self._writer.hasmarkup)
        self._tells_all = self._is_terminal or config.get_verbosity() > 0
        self._stage = ""
        self._shown_at = 0.0

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        """Show a state if the last one is old enough, and every last state of a stage."""
        if stage in MESSAGES:
            self._stage = stage
            self._write(f"engram-bench: {stage}, {note}", is_new=True, stays=True)
            return
        if not self._tells_all:
            return
        now = time.monotonic()
        is_new, is_last = stage != self._stage, done >= total
        pause = REDRAW_S if self._is_terminal else REPORT_S
        if is_new or is_last or now - self._shown_at >= pause:
            self._stage, self._shown_at = stage, now
            share = f" {done}/{total}" if total else ""
            line = f"engram-bench: {stage}{share}{', ' if note else ''}{note}"
            self._write(line, is_new=is_new, is_last=is_last)

    def _write(self, line: str, *, is_new: bool, is_last: bool = False, stays: bool = False) -> None:
        with self._capture.global_and_fixture_disabled() if self._capture is not None else nullcontext():
            self._write_now(line, is_new=is_new, is_last=is_last, stays=stays)

    def _write_now(self, line: str, *, is_new: bool, is_last: bool, stays: bool) -> None:
        if self._is_terminal and not stays:
            width = self._writer.fullwidth - 1
            shown = printable(line, width)
            progress(self._writer, shown.ljust(width), before="\r")
            if is_last:
                progress(self._writer, " " * width, before="\r", after="\r")
        else:
            progress(self._writer, line, before="\n" if is_new else "", after="\n")
