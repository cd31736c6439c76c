"""Two sides set against each other: estimates, the ledger and the verdicts on them."""

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
    """A measured value with its sample size and 95 % interval."""

    value: float
    n: int
    interval: tuple[float, float] | None = None
    passed: int | None = None
    """Count behind a rate; None for means, ratios and times."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric on both sides of a comparison."""

    name: str
    """As gates write it: ``accuracy``, ``paraphrase_consistency``, ``decode_speed`` …"""
    unit: str
    """``rate`` (0..1), ``tokens``, ``seconds``, ``tok/s``, ``nats``, ``ppl`` or ``MB``."""
    baseline: Estimate | None
    candidate: Estimate | None
    difference: Estimate | None = None
    """Candidate minus baseline in the metric's unit (rates: 0.1 is 10 pp), over paired rows only."""
    ratio: Estimate | None = None
    """Candidate over baseline where measured in pairs; 1.0 is no change."""
    fixed: int | None = None
    broken: int | None = None
    """Discordant pairs of a rate: the input of McNemar's test."""
    higher_is_better: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class SpeedSummary:
    """Timed rounds of one side in figures: what reports print."""

    test: str
    side: Side
    batch: int
    rounds: int
    p50_s: float
    p90_s: float
    tok_s: Estimate | None = None
    """Median over rounds of new tokens a second; None where a round makes no text (loading)."""
    tok_s_iqr: tuple[float, float] | None = None
    tokens: float = 0.0
    """Mean new tokens of a round."""
    metric: str = ""
    """Name under which gates judge *ratio*; empty where none does."""
    ratio: Estimate | None = None
    """Over the baseline, in pairs: of speeds for tok/s, of times otherwise."""
    ratios: tuple[float, ...] = ()
    """One per pair, in order of measuring."""
    peak_memory_mb: float | None = None
    conditions: str = ""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One case on both sides."""

    case_id: str
    state: State
    category: str
    split: Split
    source: SourceLine
    prompt: str
    expected: str
    baseline: str
    """The baseline's answer."""
    candidate: str
    reason: str = ""
    """Why the candidate's answer is not right; empty where it is."""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides aligned case by case."""

    measures: Mapping[str, Measure]
    """By metric name; ``accuracy`` is there whenever an accuracy case ran on both sides."""
    slices: Mapping[str, Mapping[str, Measure]]
    """``category:NAME`` and ``file:NAME`` → the same metrics on that slice."""
    ledger: tuple[LedgerEntry, ...]
    """Seen, held-out and control cases, in order of the files; never sampled repeats."""
    unscored: tuple[str, ...] = ()
    """Ids of cases a matcher crashed on or a side has no row for."""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Cases only the newer (only the older) of two runs has; not counted anywhere else."""
    speed: tuple[SpeedSummary, ...] = ()
    """Timed sides in the order they were measured; their metrics are in *measures*."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate's judgement of a comparison."""

    gate: str
    """The expression as written."""
    outcome: VerdictOutcome
    measured: str
    """Ready for print: ``+95.4 pp (125 of 131, was 0 of 131)``; empty if not measured."""
    wanted: str
    """``at least +10 pp``."""
    reason: str = ""
    p_value: float | None = None
