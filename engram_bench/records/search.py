"""The trials of a sweep over recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engram_bench.records.comparison import Estimate

FieldValue = str | int | float | bool
"""Value of a recipe's field that a sweep may try."""
TrialState = Literal["done", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One recipe of a sweep with what was measured of it."""

    number: int
    """Number of the trial, counted from 1 in order of their beginnings."""
    changes: Mapping[str, FieldValue]
    """Field of the recipe → its value in this trial."""
    state: TrialState
    value: Estimate | None = None
    """Value of the objective's metric; of a pruned trial that after its short training, None of a failed one."""
    excesses: tuple[float, ...] = ()
    """How far each gate of the objective is missed, in its own unit: at most 0 where it holds."""
    measures: Mapping[str, Estimate] = field(default_factory=dict)
    """Metric → the candidate's value."""
    adapter: str = ""
    seconds: float = 0.0
    """Wall seconds of training and asking; what was stored before costs next to none."""
    steps: int = 0
    """Optimizer steps of the training."""
    reason: str = ""
    """Why the trial failed; empty otherwise."""

    @property
    def holds(self) -> bool:
        """Whether the trial is done and every gate of the objective holds."""
        return self.state == "done" and all(excess <= 0 for excess in self.excesses)
