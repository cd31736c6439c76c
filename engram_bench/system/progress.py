"""How work that takes long is told to whoever watches: one callable, handed down from the front door."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Called as ``progress(stage, done, total, note)``; *stage* is ``download``, ``convert``, ``train``, ``answer`` …"""
MESSAGES = frozenset({"machine", "store", "wait"})
"""Stages whose notes are shown wherever output goes: what this machine lacks, a damaged store, another process to wait for."""


def no_progress(stage: str, done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""
