"""The sides that each speed test times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from engram_bench.records import PatternSet, Side

SPEED_TESTS = ("decode_speed", "batch_throughput", "first_token", "time_to_answer", "load_time")
"""Tests of the speed suite, each a metric of its name."""


@dataclass(frozen=True, slots=True)
class SpeedCase:
    """One side of one speed test."""

    test: str
    side: Side
    batch: int = 1

    @property
    def id(self) -> str:
        """``fused``, or ``fused-8`` where prompts are answered together."""
        return self.side if self.batch == 1 else f"{self.side}-{self.batch}"


def speed_cases(pattern_set: PatternSet, test: str) -> list[SpeedCase]:
    """The sides that *test* times for a file of ``kind: speed``; none for another file or test."""
    plan = pattern_set.speed
    if plan is None or test not in SPEED_TESTS:
        return []
    if test == "load_time":
        return [SpeedCase(test, "candidate")]
    batches = plan.batch_sizes if test == "batch_throughput" else (1,)
    return [SpeedCase(test, side, batch) for batch in batches for side in get_args(Side)]
