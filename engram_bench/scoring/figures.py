"""Measured values as text, so that a figure reads the same in a verdict, a table and a page."""

from __future__ import annotations

from engram_bench.records import Estimate

_FORMATS = {"nats": ".3g", "seconds": ".3g", "ppl": ".2f", "MB": ".0f"}


def figure(value: float, unit: str) -> str:
    """*value* with its unit: ``95.4 %`` for a rate of 0.954, ``24.8 tok/s``, ``0.0312 seconds``."""
    return f"{number(value, unit)} {'%' if unit == 'rate' else unit}".rstrip()


def number(value: float, unit: str = "") -> str:
    """*value* without its unit: rates in per cent with one decimal, values that may be tiny with three significant digits."""
    if unit == "rate":
        return f"{100 * value:.1f}"
    return f"{value:{_FORMATS.get(unit, '.1f')}}"


def change(difference: float, unit: str) -> str:
    """A signed difference with its unit: ``+95.4 pp`` for rates, ``-27.1 tokens``; never ``-0.0``."""
    if unit == "rate":
        return f"{round(100 * difference, 1) + 0.0:+.1f} pp"
    text = number(abs(difference), unit)
    return f"{'-' if difference < 0 and float(text) else '+'}{text} {unit}".rstrip()


def counts(estimate: Estimate) -> str:
    """The count behind a rate: ``125 of 131``; empty for a mean, a ratio or a time."""
    return "" if estimate.passed is None else f"{estimate.passed} of {estimate.n}"
