"""Parsers of option texts: each gives a value, or raises ValueError with what was expected."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from engram_bench.adapters.kind_names import split_kind
from engram_bench.backends.specs import SHORTCUTS


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers from *low* to *high*, both included."""
    expected = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(expected) from None
        if number < low or (high is not None and number > high):
            raise ValueError(expected)
        return number

    return parse


def positive_number(text: str) -> float:
    """A finite number of at least 0.

    Raises:
        ValueError: The text is no such number.
    """
    with suppress(ValueError):
        if 0 <= (number := float(text)) < float("inf"):
            return number
    raise ValueError("a number of at least 0")


def one_of(*words: str) -> Callable[[str], str]:
    """A parser of one of these words."""

    def parse(text: str) -> str:
        if text not in words:
            expected = f"one of {', '.join(words)}"
            raise ValueError(expected)
        return text

    return parse


def adapter_kind(text: str) -> str:
    """The text of an adapter kind: ``lora``, ``memory`` or ``both``; ``:PRESET`` may follow the last two.

    Raises:
        ValueError: The text names no kind; the message says what was expected.
    """
    split_kind(text)
    return text


route = one_of("always", "keys", "state")
"""A parser of routes."""


def share(text: str) -> float:
    """A share between 0 and 1, both excluded.

    Raises:
        ValueError: The text is no such number.
    """
    with suppress(ValueError):
        if 0 < (number := float(text)) < 1:
            return number
    raise ValueError("a share between 0 and 1, such as 0.02")


def shortcuts(text: str) -> tuple[str, ...]:
    """The names of shortcuts in a text with commas between them; the empty text has none.

    Raises:
        ValueError: The text has a name that no shortcut has.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not {*names} <= {*SHORTCUTS, "all"}:
        expected = f"some of {', '.join(SHORTCUTS)}, with commas between them, or all"
        raise ValueError(expected)
    return names


def auto_or(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser that takes ``auto`` for None."""
    return lambda text: None if text == "auto" else parse(text)


def optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser that takes the empty text for None."""
    return lambda text: parse(text) if text else None
