"""What a sweep looks for: ``max METRIC`` or ``min METRIC``, with gates that a recipe must pass.

max generalization
max generalization where retention >= 95%
min answer_tokens where accuracy >= 98% and retention >= 95%
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from engram_bench.errors import GateSyntaxError, UsageError
from engram_bench.records import Comparison, Estimate, Trial
from engram_bench.scoring.findings import find
from engram_bench.scoring.gate_grammar import ALIASES, Gate, nearest, parse_gate
from engram_bench.scoring.metrics import METRICS

GRAMMAR = "max|min METRIC [where GATE [and GATE …]]"
_OBJECTIVE = re.compile(r"\s*(max|min)\s+([A-Za-z_]\w*)\s*(?:\bwhere\b(.+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to make as large or as small as can be, and the gates that have to hold."""

    text: str
    direction: Literal["max", "min"]
    metric: str
    """Name in ``METRICS``, aliases resolved."""
    gates: tuple[Gate, ...] = ()

    @property
    def unit(self) -> str:
        """Unit of the metric; empty for a metric that is not one of ``METRICS``."""
        return METRICS[self.metric].unit if self.metric in METRICS else ""

    def value(self, comparison: Comparison) -> Estimate:
        """The candidate's value of the metric.

        Raises:
            UsageError: The metric was not measured.
        """
        measure = comparison.measures.get(self.metric)
        if measure is None or measure.candidate is None:
            msg = f"objective {self.text!r}: {self.metric} was not measured, expected patterns that give it"
            raise UsageError(msg)
        return measure.candidate

    def excesses(self, comparison: Comparison) -> tuple[float, ...]:
        """How far each gate is missed, in its own unit: at most 0 where it holds.

        Only the value counts here, not the evidence behind it: a sweep compares many recipes, and its winner is judged
        by the session's gates.

        Raises:
            UsageError: A gate's metric was not measured.
        """
        found = []
        for gate in self.gates:
            value = find(gate, comparison).value
            if value is None:
                msg = f"objective {self.text!r}: {gate.metric} was not measured, expected patterns that give it"
                raise UsageError(msg)
            found.append(-gate.margin(value))
        return tuple(found)


def parse_objective(text: str) -> Objective:
    """The objective of an expression such as ``max generalization where retention >= 95%``.

    Raises:
        GateSyntaxError: The text does not follow the grammar.
        UsageError: A metric is unknown.
    """
    found = _OBJECTIVE.fullmatch(text)
    if found is None:
        msg = f"objective {text!r}: expected {GRAMMAR}, such as 'max generalization where retention >= 95%'"
        raise GateSyntaxError(msg)
    direction, name, constraints = found.groups()
    metric = ALIASES.get(name, name)
    if metric not in METRICS:
        msg = f"objective {text!r}: found metric {name!r}, expected one of {', '.join(METRICS)}{nearest(name, METRICS)}"
        raise UsageError(msg)
    gates = re.split(r"\s+and\s+", constraints.strip()) if constraints is not None else []
    return Objective(text.strip(), "max" if direction == "max" else "min", metric, tuple(map(parse_gate, gates)))


def best(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The done trial with the best value for which every gate holds; of equal ones that with the fewest steps."""
    sign = 1 if objective.direction == "max" else -1
    allowed = [(trial.value.value, trial) for trial in trials if trial.holds and trial.value is not None]
    found = max(allowed, key=lambda pair: (sign * pair[0], -pair[1].steps), default=None)
    return found[1] if found else None


def rivals(trials: Sequence[Trial], winner: Trial) -> list[Trial]:
    """The other trials for which every gate holds and whose value lies inside the winner's interval."""
    if winner.value is None or winner.value.interval is None:
        return []
    low, high = winner.value.interval
    return [
        trial
        for trial in trials
        if trial is not winner and trial.holds and trial.value is not None and low <= trial.value.value <= high
    ]
