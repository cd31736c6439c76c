"""What a matcher is, and the words it answers in."""

from __future__ import annotations

from collections.abc import Callable

from engram_bench.errors import EngramBenchError
from engram_bench.records import Score

Matcher = Callable[[str, str], bool | str | Score]
"""Called as ``matcher(text, answer)`` with what the model said and one accepted answer.

True passes, False misses, a text misses and is the reason, a ``Score`` is taken as it is; any exception makes the case
*not scored*.
"""


class UnusableAnswer(EngramBenchError):
    """The accepted answer cannot be compared with anything: a broken regex, JSON that does not parse."""


def miss(text: str, expected: str) -> str:
    """The reason of a miss: what was found and what was expected, on one line."""
    return f"found {shown(text)}, expected {expected}"


def shown(text: str, limit: int = 60) -> str:
    """The text as a quoted literal without control characters, cut to *limit* characters and ``…``."""
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
