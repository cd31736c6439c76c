"""Recipes judged over seeds: intervals over trainings, and the share of chance that seeds and cases bring.

Every seed answers the same cases, so the two are crossed: an answer varies with its seed, with its case, and with both.

Functions import numpy and scipy.special when they run, as in :mod:`engram_bench.stats.rates`.

Sources: variance components of a crossed layout, Searle, Casella & McCulloch (1992), Variance Components, chapter 4; degrees
of freedom, Satterthwaite (1946), Biometrics Bulletin 2, 110-114; resampling of crossed and of clustered data, Owen (2007),
Ann. Appl. Stat. 1, 386-411, and Field & Welsh (2007), J. R. Stat. Soc. B 69, 369-390; for evaluations of language models,
Miller (2024), "Adding error bars to evals", arXiv 2411.00640.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import TYPE_CHECKING, NamedTuple

from engram_bench.stats.rates import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Cells = NDArray[np.float64]
    """A value for each seed (first axis) and each case (second axis)."""


class Components(NamedTuple):
    """Shares of one answer's variance, each 0..1; the sum is 1, or 0 where every answer is the same."""

    seeds: float
    """Share of the seed: some trainings are better on every case."""
    cases: float
    """Share of the case: some cases are answered correctly under every seed, others under none."""
    both: float
    """Share of seed and case together: a case that is correct under some seeds only."""


class Difference(NamedTuple):
    """A mean or a difference of means over seeds and cases, with its error."""

    value: float
    error: float
    """Standard error over seeds and cases."""
    freedom: float
    """Degrees of freedom of the error; infinite where nothing varies."""
    seeds_error: float
    """Standard error of the seeds alone: another training on the same cases."""
    cases_error: float
    """Standard error of the cases alone: the same trainings on other cases."""

    def interval(self, level: float = 0.95) -> Interval:
        """Student's interval around the value; a single point where nothing varies."""
        reach = _quantile(self.freedom, level) * self.error if self.error else 0.0
        return self.value - reach, self.value + reach

    def p_value(self, *, two_sided: bool = True) -> float:
        """P-value of "the value is 0", or of "the value is not above 0" where one-sided; 1 where nothing varies around 0."""
        from scipy.special import stdtr

        if not self.error:
            return 1.0 if self.value == 0 or not (two_sided or self.value > 0) else 0.0
        ratio = self.value / self.error
        return float(2 * stdtr(self.freedom, -abs(ratio)) if two_sided else stdtr(self.freedom, -ratio))


def cells(values: NDArray[np.float64], clusters: NDArray[np.intp]) -> Cells:
    """Values of each seed on each cluster whose mean over clusters is the mean of the seed's values.

    Args:
        values: Value of each seed (first axis) on each row (second axis).
        clusters: Index of each row's cluster, 0 to the number of clusters less one.

    Returns:
        The mean of each cluster where clusters are of one size; where sizes differ, each cluster by its weight.
    """
    import numpy as np

    sizes = np.bincount(clusters)
    sums = np.stack([np.bincount(clusters, weights=seed) for seed in values])  # (seeds, clusters)
    means = values.mean(axis=1, keepdims=True)
    weighted: Cells = means + len(sizes) / len(clusters) * (sums - means * sizes)
    return weighted


def components(values: Cells) -> Components:
    """Shares of the variance of one cell of *values*: seeds (first axis, at least two) and cases (second, at least two)."""
    num_seeds, num_cases = values.shape
    seeds, cases = values.mean(axis=1), values.mean(axis=0)
    rest = values - seeds[:, None] - cases + values.mean()
    both = float((rest**2).sum()) / ((num_seeds - 1) * (num_cases - 1))
    of_seeds = max(0.0, float(seeds.var(ddof=1)) - both / num_cases)
    of_cases = max(0.0, float(cases.var(ddof=1)) - both / num_seeds)
    total = of_seeds + of_cases + both
    return Components(*(part / total if total > 1e-15 else 0.0 for part in (of_seeds, of_cases, both)))


def difference(first: Cells, second: Cells | None = None) -> Difference:
    """The mean of *first*, or its difference from *second*, over seeds and cases that could both have been others.

    Cases are paired, seeds of two recipes are not. A side with one row is one training that is judged as it is. The variance
    that a seed and a case have together counts under both, so that the error is rather too large than too small.

    Args:
        first: Value of each seed (first axis) on each case (second axis).
        second: Values of the other recipe on the same cases; None for a mean.
    """
    sides = [first] if second is None else [first, second]
    parts = [(float(side.mean(axis=1).var(ddof=1)) / len(side), len(side) - 1) for side in sides if len(side) > 1]
    per_case = first.mean(axis=0) - (0.0 if second is None else second.mean(axis=0))
    num_cases = len(per_case)
    if num_cases > 1:
        parts.append((float(per_case.var(ddof=1)) / num_cases, num_cases - 1))
    of_cases = parts[-1][0] if num_cases > 1 else 0.0
    total = math.fsum(part for part, _ in parts)
    if total < 1e-18:  # rounding alone
        return Difference(float(per_case.mean()), 0.0, math.inf, 0.0, 0.0)
    freedom = total**2 / math.fsum(part**2 / count for part, count in parts)
    of_seeds = max(0.0, total - of_cases)
    return Difference(float(per_case.mean()), math.sqrt(total), freedom, math.sqrt(of_seeds), math.sqrt(of_cases))


def flakiness(values: Cells) -> float:
    """The variance that flaky cases alone would give to the mean of a seed; 0 where all seeds agree on every case.

    Seeds that agree better than their flaky cases allow do so by luck, and two or three seeds often have that luck.
    """
    return float(values.var(axis=0, ddof=1).mean()) / values.shape[1] if len(values) > 1 else 0.0


def over_seeds(
    first: Sequence[float],
    second: Sequence[float] = (),
    *,
    level: float = 0.95,
    least: tuple[float, float] = (0.0, 0.0),
) -> Interval:
    """Interval for the mean over all seeds of *first*, less that of *second*, on the very same cases.

    Args:
        first: Value of each seed, at least one.
        second: Value of each seed of the other recipe; empty for none.
        level: Coverage of the interval, 0..1.
        least: Smallest variance of a seed's value on each side, as :func:`flakiness` gives it.

    Returns:
        (low, high), a single point where nothing varies.

    Raises:
        ValueError: Neither side has two seeds.

    Source: Student (1908), Biometrika 6, 1-25; Welch (1938), Biometrika 29, 350-362.
    """
    parts = [
        (max(variance(side), floor) / len(side), len(side) - 1)
        for side, floor in zip((first, second), least, strict=True)
        if len(side) > 1
    ]
    if not parts:
        message = f"over_seeds: {len(first)} seeds, expected at least 2"
        raise ValueError(message)
    value = fmean(first) - (fmean(second) if second else 0.0)
    total = math.fsum(part for part, _ in parts)
    if total < 1e-18:
        return value, value
    freedom = total**2 / math.fsum(part**2 / count for part, count in parts)
    reach = _quantile(freedom, level) * math.sqrt(total)
    return value - reach, value + reach


def _quantile(freedom: float, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))
