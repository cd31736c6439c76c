"""Names of the kinds of adapter, apart from ``kinds`` so that reading an option imports no recipe."""

from __future__ import annotations

NAMES = ("lora", "memory", "both")
WITH_PRESET = ("memory", "both")
"""Kinds whose name may be followed by ``:PRESET``."""


def split_kind(text: str) -> tuple[str, str]:
    """The name and the preset in a text such as ``lora``, ``memory`` or ``both:nearest``; no preset is an empty one.

    Raises:
        ValueError: The text is none of these; the message says which are.
    """
    name, colon, preset = text.partition(":")
    if name not in NAMES or (colon and not (name in WITH_PRESET and preset)):
        raise ValueError("lora, memory, both, memory:PRESET or both:PRESET")
    return name, preset
