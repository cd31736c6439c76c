"""Paired rows and the two figures they give: a rate and a mean, on both sides and of what changed between them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

from engram_bench.records import Case, CaseResult, Estimate, Measure
from engram_bench.stats import bootstrap, rates

DRAWS = 2_000_000
"""Rows a bootstrap draws at most: 10,000 resamples of 200 rows, fewer of more (and never under 300)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sides' scored rows of one case, test and sample."""

    baseline: CaseResult
    candidate: CaseResult

    @property
    def case(self) -> Case:
        """The case both rows answer."""
        return self.candidate.case

    @property
    def pattern(self) -> tuple[str, str]:
        """The pattern behind the case, across files: the unit that varies independently of the others."""
        return (self.case.set_name, self.case.pattern_id)

    @property
    def is_sampled(self) -> bool:
        """A repeat at temperature > 0; the greedy row of a case has sample 0."""
        return self.candidate.sample > 0


@dataclass(frozen=True, slots=True)
class Metric:
    """A named way to put one figure on a set of pairs."""

    name: str
    unit: str
    """One of the units of ``records.Measure``."""
    meaning: str
    """One line for reports and help texts."""
    test: str = ""
    """Suite test whose rows it reads; empty when it is measured outside the cases."""
    compute: Callable[[Metric, Sequence[Pair]], Measure | None] | None = None
    """Given the pairs of *test*, at least one; None when they hold nothing it could measure."""
    higher_is_better: bool = True


def rate(metric: Metric, outcomes: Sequence[tuple[bool, bool]], units: Sequence[Hashable]) -> Measure:
    """The share of true outcomes on both sides, with fixed and broken counts.

    Args:
        metric: Whose name and unit the measure takes.
        outcomes: (baseline, candidate) per row, at least one.
        units: What each row belongs to (its pattern). Where a unit has several rows, the sides' intervals are clustered by
            it and the difference gets one as well; with independent rows they are Wilson's.
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

    None without values. Arguments as for ``rate``.
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
