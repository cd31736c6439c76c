"""A candidate set: several candidates compared with each other on the same cases, with ranks and the cases of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engram_bench.records.comparison import Estimate
from engram_bench.records.patterns import SourceLine, Split

PairOutcome = Literal["better", "worse", "no_difference"]
PairedTest = Literal["sign_flip", "bootstrap", "seeds_and_cases"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a set with its figures."""

    name: str
    """Short name that the user chose."""
    runs: tuple[str, ...]
    """Names of its runs, one per seed; a single run is one adapter judged as it is."""
    seeds: tuple[str, ...]
    """Label of each run's seed, in the same order."""
    model: str
    backend: str
    adapter: str
    """Name of the adapter in the first run; empty for the bare model."""
    measures: Mapping[str, Estimate]
    """Metric → the candidate's value; over several seeds the mean, with an interval over seeds and cases."""
    train_s: float | None = None
    """Wall seconds of the training, the mean over seeds; 0 for the bare model, None for an adapter made elsewhere."""
    unpaired: tuple[str, ...] = ()
    """Ids of its cases that not every other candidate answered; tests against such a candidate leave them out."""
    unscored: tuple[str, ...] = ()
    """Ids of its cases without a score under at least one seed."""

    @property
    def is_recipe(self) -> bool:
        """Whether the candidate was trained under several seeds, so that the recipe is judged and not one adapter."""
        return len(self.runs) > 1


@dataclass(frozen=True, slots=True)
class CandidatePair:
    """Two candidates on one metric, tested on the cases that both have."""

    metric: str
    first: str
    second: str
    difference: Estimate
    """First minus second in the metric's unit, over paired units (cases, or patterns), with its 95 % interval."""
    better: int
    """Number of paired units on which the first has the better value."""
    worse: int
    """Number of paired units on which the second has the better value."""
    unpaired: int
    """Number of units that only one of the two has; no figure includes them."""
    test: PairedTest
    p_value: float
    """Two-sided p-value of this pair alone."""
    adjusted: float
    """P-value adjusted by Holm's method over all pairs of the metric."""
    outcome: PairOutcome
    """Whether the first is really better or worse: *adjusted* is at most the level of the set."""


@dataclass(frozen=True, slots=True)
class ParetoSet:
    """Candidates that no other candidate equals or beats on every axis and beats on one."""

    axes: tuple[str, ...]
    """Measures that count; ``train_s`` is better where it is lower."""
    members: tuple[str, ...]
    beaten_by: Mapping[str, str] = field(default_factory=dict)
    """Candidate outside the set → one candidate that is at least as good on every axis and better on one."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Candidate → axis that was not measured for it."""


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """One metric of a recipe over its seeds."""

    name: str
    """Candidate that the recipe is."""
    metric: str
    values: Mapping[str, float]
    """Seed → value."""
    mean: float
    sd: float
    """Standard deviation over seeds."""
    low: float
    high: float
    worst_seed: str
    """Seed with the worst value, the first of equal ones."""
    interval: tuple[float, float]
    """95 % interval of the mean over other seeds on the same cases."""
    seeds_share: float | None = None
    """Share of the error of the mean, as a variance, that comes from seeds and not from cases, 0..1; None if not paired."""
    answer_shares: tuple[float, float, float] | None = None
    """Shares of one answer's variance that come from its seed, from its case, and from both together; None if not paired."""


@dataclass(frozen=True, slots=True)
class FlakyCase:
    """A case that a recipe answers correctly under some seeds only."""

    name: str
    """Candidate that the recipe is."""
    case_id: str
    test: str
    right: tuple[str, ...]
    """Seeds with a correct answer."""
    wrong: tuple[str, ...]
    """Seeds with a wrong answer."""
    prompt: str
    source: SourceLine


@dataclass(frozen=True, slots=True)
class CaseOfAll:
    """One case with the answers of all candidates."""

    case_id: str
    split: Split
    category: str
    source: SourceLine
    prompt: str
    expected: str
    right: tuple[float | None, ...]
    """Share of seeds with a correct answer, per candidate: 1 is right, 0 is wrong; None where the case has no score."""
    answers: tuple[str, ...]
    """Answer of each candidate under its first seed; empty where there is none."""


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Candidates compared with each other, as ``engram_bench.scoring.candidates.candidate_set`` returns them."""

    candidates: tuple[Candidate, ...]
    """Candidates in the order of the user."""
    alpha: float
    """Level of the tests: the chance of even one false "better" among all pairs of a metric is at most this."""
    pairs: tuple[CandidatePair, ...]
    """Every two candidates on every metric that can be paired."""
    ranks: Mapping[str, Mapping[str, str]]
    """Metric → candidate → rank: 1 plus the number of candidates really better; ``1=`` where several share it."""
    pareto: ParetoSet | None = None
    """None where fewer than two of its axes were measured."""
    spreads: tuple[SeedSpread, ...] = ()
    """Every metric of every recipe with several seeds."""
    flaky: tuple[FlakyCase, ...] = ()
    cases: tuple[CaseOfAll, ...] = ()
    """Seen, held-out and control cases in order of the files; sampled repeats are not among them."""
