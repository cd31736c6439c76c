"""How work that takes long is told to whoever watches: one callable, handed down from the front door."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Called as ``progress(stage, done, total, note)``; *stage* is ``download``, ``convert``, ``train``, ``answer`` …"""
MESSAGES = frozenset({"store", "wait"})
"""Stages whose notes are news wherever output goes: of a damaged store, of another process that is waited for."""


def no_progress(stage: str, done: int, total: int, note: str) -> None:
    """Progress that nobody watches."""
