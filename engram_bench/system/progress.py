"""Progress of long work, shown to a user through one callable that the command or the plugin hands down."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Callable ``progress(stage, done, total, note)``; *stage* is ``download``, ``convert``, ``train``, ``answer`` …"""
MESSAGES = frozenset({"machine", "store", "time", "wait"})
"""Stages whose notes are always printed: what this machine lacks, a damaged store, the time of a long training, a wait for
another process."""


def no_progress(stage: str, done: int, total: int, note: str) -> None:
    """Show no progress."""


def about(name: str, progress: Progress) -> Progress:
    """The progress with a name before every note; the progress itself where the name is empty or nothing is shown."""
    if not name or progress is no_progress:
        return progress
    return lambda stage, done, total, note: progress(stage, done, total, f"{name}{': ' if note else ''}{note}")


def duration(seconds: float) -> str:
    """A time in the unit that it is read in: seconds below 100 s, minutes below 100 min, hours beyond."""
    if 0 < seconds < 0.5:
        return "under 1 s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 99.5 else f"{minutes / 60:.1f} h"
