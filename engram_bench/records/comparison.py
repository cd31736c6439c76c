"""Comparison of two sides: estimates, measures, the ledger, and the verdicts of gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engram_bench.records.answers import Side
from engram_bench.records.patterns import SourceLine, Split

State = Literal["fixed", "broken", "still_right", "still_wrong"]
VerdictOutcome = Literal["pass", "fail", "insufficient", "not_measured"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its sample size and its 95 % interval."""

    value: float
    n: int
    """Number of rows, pairs or rounds behind the value."""
    interval: tuple[float, float] | None = None
    passed: int | None = None
    """Number of rows that passed, for a rate; None for means, ratios and times."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric on both sides of a comparison."""

    name: str
    """Name of the metric as gates write it: ``accuracy``, ``paraphrase_consistency``, ``decode_speed`` …"""
    unit: str
    """``rate`` (0..1), ``tokens``, ``seconds``, ``tok/s``, ``nats``, ``ppl`` or ``MB``."""
    baseline: Estimate | None
    candidate: Estimate | None
    difference: Estimate | None = None
    """Candidate minus baseline in the metric's unit, over paired rows only; 0.1 of a rate is 10 pp."""
    ratio: Estimate | None = None
    """Candidate over baseline, where both are measured in pairs; 1.0 is no change."""
    fixed: int | None = None
    """Number of pairs that only the candidate passes: input of McNemar's test on a rate."""
    broken: int | None = None
    """Number of pairs that only the baseline passes."""
    higher_is_better: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class SpeedSummary:
    """Figures of one side's timed rounds, as reports print them."""

    test: str
    side: Side
    batch: int
    rounds: int
    p50_s: float
    p90_s: float
    tok_s: Estimate | None = None
    """Median over rounds of new tokens per second; None where a round makes no text, as loading does."""
    tok_s_iqr: tuple[float, float] | None = None
    """First and third quartile of new tokens per second."""
    tokens: float = 0.0
    """Mean number of new tokens in a round."""
    metric: str = ""
    """Name under which gates judge *ratio*; empty where no gate can."""
    ratio: Estimate | None = None
    """Ratio to the baseline, in pairs: of speeds for tok/s, of times otherwise."""
    ratios: tuple[float, ...] = ()
    """Ratio of each pair, in order of measuring."""
    peak_memory_mb: float | None = None
    conditions: str = ""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Answers of both sides to one case, and how the case changed."""

    case_id: str
    state: State
    category: str
    split: Split
    source: SourceLine
    prompt: str
    expected: str
    baseline: str
    """Answer of the baseline."""
    candidate: str
    """Answer of the candidate."""
    reason: str = ""
    """Why the candidate's answer is not correct; empty where it is."""
    required: bool = False
    baseline_reasoning: str = ""
    """What the baseline thought aloud before its answer; empty where it did not."""
    candidate_reasoning: str = ""
    """What the candidate thought aloud before its answer; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Baseline and candidate aligned case by case, as :func:`engram_bench.compare` returns them."""

    measures: Mapping[str, Measure]
    """Metric name → measure; ``accuracy`` is there whenever an accuracy case ran on both sides."""
    slices: Mapping[str, Mapping[str, Measure]]
    """``category:NAME`` or ``file:NAME`` → the same metrics on that slice."""
    ledger: tuple[LedgerEntry, ...]
    """Seen, held-out and control cases in order of the files; sampled repeats are not among them."""
    unscored: tuple[str, ...] = ()
    """Ids of cases that have no score: a matcher crashed, or a side has no row."""
    added: tuple[str, ...] = ()
    """Ids of cases that only the newer of two runs has; no count includes them."""
    removed: tuple[str, ...] = ()
    """Ids of cases that only the older of two runs has; no count includes them."""
    speed: tuple[SpeedSummary, ...] = ()
    """Timed sides in order of measuring; their metrics are in *measures*."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Judgement of a comparison by one gate."""

    gate: str
    """Expression of the gate, as written."""
    outcome: VerdictOutcome
    measured: str
    """Measured value in words: ``+95.4 pp (125 of 131, was 0 of 131)``; empty if not measured."""
    wanted: str
    """Rule of the gate in words: ``at least +10 pp``."""
    reason: str = ""
    """Why the outcome is not a plain pass or fail; may be empty."""
    p_value: float | None = None
    """P-value of the one-sided test behind a gain in a rate, adjusted for all gates; None where no test applies."""
