"""Progress of long work, shown to a user through one callable that the command or the plugin hands down."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Callable ``progress(stage, done, total, note)``; *stage* is ``download``, ``convert``, ``train``, ``answer`` …"""
MESSAGES = frozenset({"machine", "store", "wait"})
"""Stages whose notes are always printed: what this machine lacks, a damaged store, a wait for another process."""


def no_progress(stage: str, done: int, total: int, note: str) -> None:
    """Show no progress."""


def about(name: str, progress: Progress) -> Progress:
    """The progress with a name before every note; the progress itself where the name is empty or nothing is shown."""
    if not name or progress is no_progress:
        return progress
    return lambda stage, done, total, note: progress(stage, done, total, f"{name}{': ' if note else ''}{note}")
