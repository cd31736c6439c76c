"""Paired rows, and the two kinds of figures computed from them: a rate and a mean of both sides and their difference."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

from engram_bench.records import Case, CaseResult, Estimate, Measure
from engram_bench.stats import bootstrap, rates

DRAWS = 2_000_000
"""Largest number of rows that a bootstrap draws: 10,000 resamples of 200 rows, fewer of more rows, never below 300."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Scored rows of both sides for the same case, test and sample."""

    baseline: CaseResult
    candidate: CaseResult

    @property
    def case(self) -> Case:
        """The case that both rows answer."""
        return self.candidate.case

    @property
    def pattern(self) -> tuple[str, str]:
        """Set and id of the case's pattern: the unit of which intervals assume that it varies independently."""
        return (self.case.set_name, self.case.pattern_id)

    @property
    def is_sampled(self) -> bool:
        """Whether the rows are repeats at a temperature above 0; the greedy row of a case has sample 0."""
        return self.candidate.sample > 0


@dataclass(frozen=True, slots=True)
class Metric:
    """A named figure of a set of pairs."""

    name: str
    unit: str
    """Unit, one of those of ``records.Measure``."""
    meaning: str
    """Meaning of the figure in one line, for reports and help texts."""
    test: str = ""
    """Suite test whose rows the metric reads; empty for a metric that is measured outside the cases."""
    compute: Callable[[Metric, Sequence[Pair]], Measure | None] | None = None
    """Function of the pairs of *test*, at least one; returns None where the pairs hold nothing to measure."""
    higher_is_better: bool = True


def rate(metric: Metric, outcomes: Sequence[tuple[bool, bool]], units: Sequence[Hashable]) -> Measure:
    """The share of true outcomes on both sides, with fixed and broken counts.

    Args:
        metric: Metric whose name and unit the measure takes.
        outcomes: Outcomes of (baseline, candidate) per row, at least one row.
        units: Unit of each row, its pattern. Where a unit has several rows, the intervals of both sides are clustered by
            unit, and the difference gets an interval too; with independent rows the intervals are Wilson's.
    """
    n = len(outcomes)
    is_clustered = len(set(units)) < n
    changes = [int(after) - int(before) for before, after in outcomes]

    def side(flags: Sequence[bool]) -> Estimate:
        passed = sum(flags)
        interval = rates.clustered_rate_interval(flags, units) if is_clustered else rates.wilson_interval(passed, n)
        return Estimate(passed / n, n, interval, passed)

    return Measure(
        name=metric.name,
        unit=metric.unit,
        baseline=side([before for before, _ in outcomes]),
        candidate=side([after for _, after in outcomes]),
        difference=Estimate(sum(changes) / n, n, _mean_interval(changes, units) if is_clustered else None),
        fixed=changes.count(1),
        broken=changes.count(-1),
        higher_is_better=metric.higher_is_better,
    )


def mean(metric: Metric, values: Sequence[tuple[float, float]], units: Sequence[Hashable]) -> Measure | None:
    """The mean of both sides and of the paired differences, each with a bootstrap interval clustered by *units*.

    Args:
        metric: Metric whose name and unit the measure takes.
        values: Values of (baseline, candidate) per row.
        units: Unit of each row, its pattern.

    Returns:
        The measure; None without values.
    """
    if not values:
        return None

    def estimate(numbers: Sequence[float]) -> Estimate:
        return Estimate(fmean(numbers), len(numbers), _mean_interval(numbers, units))

    return Measure(
        name=metric.name,
        unit=metric.unit,
        baseline=estimate([before for before, _ in values]),
        candidate=estimate([after for _, after in values]),
        difference=estimate([after - before for before, after in values]),
        higher_is_better=metric.higher_is_better,
    )


def _mean_interval(numbers: Sequence[float], units: Sequence[Hashable]) -> tuple[float, float] | None:
    resamples = min(10_000, max(300, DRAWS // len(numbers)))
    return bootstrap.mean_interval(numbers, clusters=units, resamples=resamples)
