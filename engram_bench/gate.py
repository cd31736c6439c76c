"""Rules on a comparison and the verdicts they lead to.

    [SCOPE.]METRIC >= | <= [+|-]NUMBER[pp|%|unit]

    accuracy >= +10pp                    points over the baseline; the gain must also be real (exact McNemar)
    accuracy >= +10%                     relative to the baseline's own value
    accuracy >= 90%                      absolute floor
    decode_speed >= -5%                  tolerance: judged on the whole interval of the paired ratio
    category:http_codes.accuracy >= 95%  one slice; also file:NAME., worst_category., worst_file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from engram_bench import stats
from engram_bench.errors import GateSyntaxError, UsageError
from engram_bench.metrics import METRICS
from engram_bench.records import Comparison, Estimate, Measure, Verdict, VerdictOutcome

GRAMMAR = "[category:NAME.|file:NAME.|worst_category.|worst_file.]METRIC >= or <= [+|-]NUMBER[pp|%|unit]"

ALIASES = {"consistency": "consistent_accuracy"}
"""Short names. Consistency is gated as *right under every wording*: repeating one wrong answer must not pass."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One parsed rule. Equal to another gate when it asks the same, however it was written."""

    text: str = field(compare=False)
    """As written."""
    scope: str
    """``""``, ``category:NAME``, ``file:NAME``, ``worst_category`` or ``worst_file``."""
    metric: str
    """A name in ``METRICS``, aliases resolved."""
    operator: Literal[">=", "<="]
    relative: bool
    """The number has a sign: it is a difference from the baseline."""
    number: float
    unit: str
    """``pp``, ``%``, the metric's unit, or empty for the metric's unit."""
    is_default: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        """The canonical text, which parses to an equal gate."""
        number = f"{self.number:+g}" if self.relative else f"{self.number:g}"
        return f"{self.scope}{'.' * bool(self.scope)}{self.metric} {self.operator} {number}{self.unit}"

    @property
    def asks_for_gain(self) -> bool:
        """Relative, and standing still is not enough (``accuracy >= +10pp``, ``answer_tokens <= -20%``)."""
        return self.relative and (self.number > 0 if self.operator == ">=" else self.number < 0)

    @property
    def wanted(self) -> str:
        """The rule in words: ``at least +10 pp``."""
        number = f"{self.number:+g}" if self.relative else f"{self.number:g}"
        bound = "at least" if self.operator == ">=" else "at most"
        return f"{bound} {number} {self.unit}".rstrip()

    def holds(self, value: float) -> bool:
        """Whether *value*, in the gate's unit, meets the bound (to nine digits: 0.1 × 100 is not quite 10)."""
        slack = 1e-9 * max(1.0, abs(self.number))
        return value >= self.number - slack if self.operator == ">=" else value <= self.number + slack


def parse_gate(text: str, *, known: Collection[str] = tuple(METRICS)) -> Gate:
    """The rule that *text* writes down.

    Raises:
        GateSyntaxError: *text* does not follow the grammar, or its unit does not fit its metric or sign.
        UsageError: The metric is not one of *known*.
    """
    raise NotImplementedError


def session_gates(texts: Iterable[str]) -> tuple[Gate, ...]:
    """The gates of *texts*, then each default gate whose metric none of them names.

    Raises:
        GateSyntaxError, UsageError: As ``parse_gate``.
    """
    raise NotImplementedError


def judge(gates: Sequence[Gate], comparison: Comparison, *, alpha: float = 0.05) -> tuple[Verdict, ...]:
    """One verdict per gate, in order."""
    raise NotImplementedError


def session_passes(verdicts: Iterable[Verdict]) -> bool:
    """Whether no verdict is ``fail`` or ``insufficient``; True without verdicts."""
    return all(verdict.outcome in ("pass", "not_measured") for verdict in verdicts)
