"""Output of commands on any terminal, of any width and encoding, with colours or without, or to a file."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from engram_bench.door import encodable, inert_json, printable
from engram_bench.system.progress import MESSAGES, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

STYLES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def say(*lines: str, style: str = "") -> None:
    """Print lines to standard output, with characters that its encoding lacks replaced.

    Args:
        lines: Texts of one or more lines, which are made printable.
        style: Name in ``STYLES``, used where standard output shows colours; empty for plain text.
    """
    for text in lines:
        for line in text.split("\n"):
            print(styled(encodable(printable(line), encoding()), style))


def say_error(message: str) -> None:
    """Print an error to standard error, its lines made printable."""
    for line in message.splitlines():
        print(encodable(printable(line), sys.stderr.encoding or "ascii"), file=sys.stderr)


def say_json(document: Any) -> None:
    """Print one JSON document to standard output, in ASCII."""
    print(inert_json(json.dumps(document, indent=2, allow_nan=False)))


def styled(text: str, style: str) -> str:
    """*text* with the escapes of a style where standard output shows colours."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and has_colour(sys.stdout) else text


def has_colour(stream: IO[str]) -> bool:
    """Whether a stream shows colours: a terminal does unless ``NO_COLOR`` is set; any stream does with ``FORCE_COLOR``."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def encoding() -> str:
    """Encoding of standard output."""
    return sys.stdout.encoding or "ascii"


def width() -> int:
    """Columns of the terminal: the variable ``COLUMNS``, else the terminal's own width, else 80."""
    return shutil.get_terminal_size((80, 24)).columns


def table(rows: Iterable[Iterable[str]], *headers: str, align: str = "") -> list[str]:
    """Lines of a table under headers that fits the terminal: its last column wraps. Cells are made printable."""
    # Here because tables need the metrics and tabulate, and every command imports this module.
    from engram_bench.reporting.tables import ReportTable

    cells = tuple(tuple(map(printable, row)) for row in rows)
    return ReportTable("", headers, align or "l" * len(headers), cells).plain(max(width(), 20))


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """A progress bar on standard error, gone when its stage ends; only messages without a terminal or with *quiet*."""
    if quiet or not sys.stderr.isatty():
        yield say_message
        return
    bars = StageBars()
    try:
        yield bars
    finally:
        bars.clear()


def say_message(stage: str, done: int, total: int, note: str) -> None:
    """Print the note to standard error if the stage is one of messages, not of progress."""
    if stage in MESSAGES:
        say_error(f"engram-bench: {note}")


class StageBars:
    """A progress bar that exists only while a stage is at work: between stages nothing touches the terminal."""

    def __init__(self) -> None:
        self._stage = ""
        self._bars: Bars | None = None

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        """Show the progress of a stage; the bar goes away at the stage's end and when another stage begins."""
        if stage != self._stage:
            self.clear()
        if stage in MESSAGES:
            say_message(stage, done, total, note)
            return
        shown = encodable(printable(note, 40), sys.stderr.encoding or "ascii").replace("[", r"\[")
        if self._bars is None:
            self._stage, self._bars = stage, _started_bars(stage, total)
        self._bars.update(self._bars.task_ids[0], completed=done, total=total or None, note=shown)
        if total and done >= total:
            self.clear()

    def clear(self) -> None:
        """Take the bar away, so that something else can use the terminal."""
        if self._bars is not None:
            self._bars.stop()
        self._stage, self._bars = "", None


def _started_bars(stage: str, total: int) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    bars.add_task(stage, total=total or None, note="")
    bars.start()
    return bars


def clear_progress(progress: Progress) -> None:
    """Take the bar of *progress* away, if there is one: a training that ends early leaves its bar."""
    if isinstance(progress, StageBars):
        progress.clear()
