"""What commands print, on any terminal: its width, its encoding, with colour or without, or no terminal at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from engram_bench.reporting.clean import encodable, printable
from engram_bench.system.progress import MESSAGES, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

STYLES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def say(*lines: str, style: str = "") -> None:
    """Print lines to stdout in what its encoding has; *style* is a name of ``STYLES`` and needs a terminal.

    The lines' untrusted parts must have gone through ``printable`` before.
    """
    for line in lines:
        print(styled(encodable(line, encoding()), style))


def say_error(message: str) -> None:
    """Print an error to stderr, its lines made printable."""
    for line in message.splitlines():
        print(encodable(printable(line), sys.stderr.encoding or "ascii"), file=sys.stderr)


def say_json(document: Any) -> None:
    """Print one JSON document to stdout, in ASCII."""
    print(json.dumps(document, indent=2, allow_nan=False))


def styled(text: str, style: str) -> str:
    """*text* with the escapes of a style where stdout shows colours."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and has_colour(sys.stdout) else text


def has_colour(stream: IO[str]) -> bool:
    """Whether to colour: on a terminal that can, unless ``NO_COLOR`` is set; anywhere if ``FORCE_COLOR`` is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def encoding() -> str:
    """Of stdout."""
    return sys.stdout.encoding or "ascii"


def width() -> int:
    """Columns to fill: ``COLUMNS``, the terminal's, else 80."""
    return shutil.get_terminal_size((80, 24)).columns


def table(rows: Iterable[Iterable[str]], *headers: str, align: str = "") -> list[str]:
    """Lines of a table under headers, its last column wrapped into the terminal; cells are made printable."""
    from engram_bench.reporting.tables import ReportTable

    cells = tuple(tuple(map(printable, row)) for row in rows)
    return ReportTable("", headers, align or "l" * len(headers), cells).plain(max(width(), 20))


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """A bar for the stage at work on stderr, gone when it is done; where that is no terminal, or *quiet*, messages alone."""
    if quiet or not sys.stderr.isatty():
        yield say_message
        return
    bars = StageBars()
    try:
        yield bars
    finally:
        bars.clear()


def say_message(stage: str, done: int, total: int, note: str) -> None:
    """The note on stderr, if it is a message and no state of a work."""
    if stage in MESSAGES:
        say_error(f"engram-bench: {note}")


class StageBars:
    """Progress as a bar that is there only while a stage is at work: between stages nothing touches the terminal."""

    def __init__(self) -> None:
        self._stage = ""
        self._bars: Bars | None = None

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        """Show a state of a stage; its last one, or another stage, ends it."""
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
        """Take the bar away, for who wants the terminal for itself."""
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
    """Take a bar away that *progress* may be showing, as a training that ends early leaves one."""
    if isinstance(progress, StageBars):
        progress.clear()
