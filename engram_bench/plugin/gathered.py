"""Results of a session as they travel between processes: plain values on test reports."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

TRAVEL = "engram_bench"
"""Attribute of a report that carries results and notes; xdist sends it along with the report."""


@dataclass
class Gathered:
    """Plain values on one candidate that came with the reports of a session."""

    rows: list[Any] = field(default_factory=list)
    speed: list[Any] = field(default_factory=list)
    guards: list[Any] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Ids of cases whose test failed before it had an answer."""
    notes: dict[str, Any] = field(default_factory=dict)
    """The run as the process knows it that did the most: the others found its work in the stores."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_s: float = field(default_factory=time.perf_counter)

    def take(self, travelled: dict[str, Any]) -> None:
        """Add what a report carries."""
        self.rows += travelled["rows"]
        self.speed += travelled["speed"]
        self.guards += travelled["guards"]
        notes = travelled["notes"]
        if notes and (not self.notes or _work_s(notes) > _work_s(self.notes)):
            self.notes = notes

    @property
    def is_a_run(self) -> bool:
        """Whether there is anything to report."""
        return bool((self.rows or self.speed) and self.notes)


def _work_s(notes: dict[str, Any]) -> float:
    return float(sum(notes["timing"].values()))
