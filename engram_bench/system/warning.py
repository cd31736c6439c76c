"""Warnings to a user, through the door."""

from __future__ import annotations

import warnings

from engram_bench.door import printable


def warn(message: str) -> None:
    """Give a warning, which names the caller of the function that warns."""
    warnings.warn(printable(message), stacklevel=3)
