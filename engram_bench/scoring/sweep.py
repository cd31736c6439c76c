"""Which checkpoint of a sweep to keep."""

from __future__ import annotations

from collections.abc import Sequence

from engram_bench.records import SweepPoint

RULE = "the highest mean of what was measured of recall, held-out accuracy and retention; of equals the earliest"
"""How the best checkpoint is picked."""


def best(points: Sequence[SweepPoint]) -> SweepPoint | None:
    """The point that ``RULE`` picks; None without points."""
    return max(points, key=lambda point: (round(point.mean, 9), -point.step), default=None)
