"""Untrusted text made printable."""

from __future__ import annotations


def printable(text: str, limit: int | None = None) -> str:
    """*text* on one line, with every character that a terminal would act on written out."""
    raise NotImplementedError


def encodable(line: str, encoding: str) -> str:
    """*line* in characters that *encoding* has."""
    raise NotImplementedError
