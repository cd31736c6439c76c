"""Progress of long work, shown to a user through one callable that the command or the plugin hands down."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Callable ``progress(stage, done, total, note)``; *stage* is ``download``, ``convert``, ``train``, ``answer`` …"""
MESSAGES = frozenset({"machine", "store", "wait"})
"""Stages whose notes are always printed: what this machine lacks, a damaged store, a wait for another process."""


def no_progress(stage: str, done: int, total: int, note: str) -> None:
    """Show no progress."""
