"""The recipes that a sweep may try: ``--over learning_rate=1e-4,1e-3,3e-3`` and ``--over rank=4..64``."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engram_bench.errors import UsageError

_RANGE = re.compile(r"\s*([^,\s]+?)\s*\.\.\s*([^,\s]+)\s*")
LINEAR_VALUES = 5
"""Number of values that a grid takes of a range that begins at 0 or below."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One field of a recipe with the values that it may have: a list of choices, or a range with both ends included."""

    field: str
    choices: tuple[Any, ...] = ()
    """Texts, numbers and truth values; empty for a range."""
    low: float = 0
    high: float = 0
    is_whole: bool = False
    """Whether a range holds whole numbers alone."""

    @property
    def is_log(self) -> bool:
        """Whether a range is drawn from by its logarithm, as every range is that begins above 0."""
        return self.low > 0

    @property
    def ends(self) -> tuple[Any, ...]:
        """The choices, or both ends of the range: where these are allowed, all values are."""
        return self.choices or (self.low, self.high)

    @property
    def grid(self) -> tuple[Any, ...]:
        """The choices, or values spread over the range: whole numbers doubled, others two to a power of ten."""
        if self.choices:
            return self.choices
        found = self._multiples() if self.is_log else self._even()
        rounded = (round(value) if self.is_whole else float(f"{value:.2g}") for value in found)
        return tuple(dict.fromkeys(min(max(value, self.low), self.high) for value in rounded))

    def _even(self) -> list[float]:
        return [self.low + (self.high - self.low) * step / (LINEAR_VALUES - 1) for step in range(LINEAR_VALUES)]

    def _multiples(self) -> list[float]:
        first, pace = math.log(self.low), math.log(2 if self.is_whole else math.sqrt(10))
        steps = math.floor((math.log(self.high) - first) / pace + 1e-9)
        found = [math.exp(first + pace * step) for step in range(steps + 1)]
        return found if found[-1] >= self.high * (1 - 1e-9) else [*found, self.high]


def parse_dimension(text: str) -> Dimension:
    """The dimension of ``FIELD=VALUE,VALUE,…`` or ``FIELD=LOW..HIGH``.

    A value is one of TOML (a number, ``true``, a quoted text) or else a text as it stands.

    Raises:
        UsageError: The text has another shape, names no value, repeats one, or has a range that is not one of numbers.
    """
    name, equals, values = text.partition("=")
    if not (equals and name.strip() and values.strip()):
        msg = f"--over: got {text!r}, expected FIELD=VALUE,VALUE,… or FIELD=LOW..HIGH, such as rank=4..64"
        raise UsageError(msg)
    if found := _RANGE.fullmatch(values):
        return _range(name.strip(), found[1], found[2], text)
    choices = tuple(_value(part) for part in values.split(",") if part.strip())
    if not choices or len(set(map(repr, choices))) < len(choices):
        msg = f"--over: got {text!r}, expected different values between the commas"
        raise UsageError(msg)
    return Dimension(name.strip(), choices)


def parse_space(texts: Iterable[str]) -> tuple[Dimension, ...]:
    """The dimensions of a sweep, at least one, each of another field.

    Raises:
        UsageError: There is none, two are of one field, or one cannot be read.
    """
    space = tuple(map(parse_dimension, texts))
    if not space:
        msg = "--over: got none, expected a field and its values, such as --over rank=4..64"
        raise UsageError(msg)
    fields = [dimension.field for dimension in space]
    if repeated := [field for field in fields if fields.count(field) > 1]:
        msg = f"--over: {repeated[0]} is given twice, expected each field once"
        raise UsageError(msg)
    return space


def combinations(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Every combination of the grids of all dimensions, the last dimension changing fastest."""
    for values in itertools.product(*(dimension.grid for dimension in space)):
        yield {dimension.field: value for dimension, value in zip(space, values, strict=True)}


def _range(field: str, low: str, high: str, text: str) -> Dimension:
    ends = [_value(low), _value(high)]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends):
        msg = f"--over: got {text!r}, expected numbers at both ends of the range"
        raise UsageError(msg)
    if not ends[0] < ends[1]:
        msg = f"--over: got {text!r}, expected a range that rises"
        raise UsageError(msg)
    return Dimension(field, low=ends[0], high=ends[1], is_whole=all(isinstance(end, int) for end in ends))


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
