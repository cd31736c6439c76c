"""The choice of the best checkpoint of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from engram_bench.records import SweepPoint

RULE = "the highest mean of the measured rates (recall, held-out accuracy, retention); the earliest of equal ones"
"""Rule by which the best checkpoint is picked, in words."""


def best(points: Sequence[SweepPoint]) -> SweepPoint | None:
    """The checkpoint that ``RULE`` picks; None without checkpoints."""
    return max(points, key=lambda point: (round(point.mean, 9), -point.step), default=None)
