"""Bootstrap intervals of means, medians and their changes; pure functions of numbers and a seed.

Functions import numpy and scipy.special when they run, as in :mod:`engram_bench.stats.rates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from engram_bench.stats.rates import Interval, grouped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_DRAWS = 4_000_000
"""Largest number of resampled indices in memory (32 MB); a bootstrap of 100,000 rows runs in slices."""
KEPT_DRAWS = 500_000
"""Largest number of resampled indices (4 MB) that are kept for the next measure of as many rows."""


def mean_interval(
    differences: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval | None:
    """Interval for the mean of paired differences (candidate minus baseline, one per case).

    Args:
        differences: Difference of each case.
        clusters: Cluster of each difference, its pattern; whole clusters are drawn. None makes every row its own cluster.
        seed: Seed of the draws; the same seed gives the same interval.
        resamples: Number of bootstrap resamples.
        level: Coverage of the interval, 0..1.

    Returns:
        (low, high), which is a single point where all differences are equal; None for fewer than two clusters, which
        give no information on how much the next one would differ.

    Raises:
        ValueError: Lengths differ, or a difference is not finite.

    Source: percentile bootstrap, Efron & Tibshirani (1993) chapter 13; percentiles widened for small samples as in
    Hesterberg (2015), Am. Stat. 69, 371-386, without which ten rows would cover 90 % instead of 95 %.
    """
    import numpy as np
    from scipy.special import ndtr, stdtrit

    _check_finite(differences)
    groups = grouped(differences, range(len(differences)) if clusters is None else clusters) if len(differences) else []
    sums = np.array([_sum(rows) for rows in groups])
    sizes = np.array([len(rows) for rows in groups])

    def mean(drawn: NDArray[np.intp]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
        return means

    # Resampled means vary by (n - 1) / n too little and need Student's tails.
    n = max(2, len(groups))
    tail = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2)))
    return _bootstrap(mean, len(groups), seed=seed, resamples=resamples, tail=tail)


def median_interval(
    ratios: Sequence[float], *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Interval | None:
    """Interval for the median of paired ratios (candidate over baseline, one per timed round).

    One stray round of eight does not move this interval, though it would move the interval of a mean. From eight ratios
    on, an interval at the level 0.95 covers 91 to 95 % of true medians.

    Args:
        ratios: Ratio of each pair.
        seed: Seed of the draws; the same seed gives the same interval.
        resamples: Number of bootstrap resamples.
        level: Coverage of the interval, 0..1.

    Returns:
        (low, high), never outside the smallest and largest ratio; None for fewer than two ratios.

    Raises:
        ValueError: A ratio is not finite.

    Source: percentile bootstrap, Efron & Tibshirani (1993) chapter 13.
    """
    import numpy as np

    _check_finite(ratios)
    values = np.asarray(ratios, dtype=float)

    def median(drawn: NDArray[np.intp]) -> NDArray[np.float64]:
        medians: NDArray[np.float64] = np.median(values[drawn], axis=1)
        return medians

    return _bootstrap(median, len(values), seed=seed, resamples=resamples, tail=(1 - level) / 2)


def median_change_interval(
    old: Sequence[float], new: Sequence[float], *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Interval | None:
    """Interval for the median of *new* over the median of *old*, two samples that are not paired.

    Args:
        old: Values of the older sample.
        new: Values of the newer sample.
        seed: Seed of the draws; the same seed gives the same interval.
        resamples: Number of bootstrap resamples; each sample is drawn by itself.
        level: Coverage of the interval, 0..1.

    Returns:
        (low, high); None where a sample has fewer than two values.

    Raises:
        ValueError: A value is not finite.

    Source: percentile bootstrap, Efron & Tibshirani (1993) chapter 13.
    """
    import numpy as np

    _check_finite([*old, *new])
    if min(len(old), len(new)) < 2:
        return None
    rng = np.random.default_rng(seed)
    before, after = (
        np.median(np.asarray(values)[rng.integers(len(values), size=(resamples, len(values)))], axis=1)
        for values in (old, new)
    )
    low, high = np.quantile(after / before, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _bootstrap(
    statistic: Callable[[NDArray[np.intp]], NDArray[np.float64]], size: int, *, seed: int, resamples: int, tail: float
) -> Interval | None:
    """Percentile interval of *statistic* over resamples; *statistic* gets indices 0..size-1, one resample per row."""
    import numpy as np

    if size < 2:
        return None
    is_small = resamples * size <= KEPT_DRAWS
    slices = [_kept_draws(size, seed, resamples)] if is_small else _draws(size, seed, resamples)
    with np.errstate(over="ignore", invalid="ignore"):  # a run file may hold numbers that no run has
        values = np.concatenate([statistic(drawn) for drawn in slices])
        low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def _draws(size: int, seed: int, resamples: int) -> Iterator[NDArray[np.intp]]:
    """Indices 0..size-1 of *resamples* resamples in slices (rows, size) of at most :data:`MAX_DRAWS` indices."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = max(1, MAX_DRAWS // size)
    for start in range(0, resamples, rows):
        yield rng.integers(size, size=(min(rows, resamples - start), size))


@lru_cache(maxsize=8)
def _kept_draws(size: int, seed: int, resamples: int) -> NDArray[np.intp]:
    """The one slice of :func:`_draws`, kept because a report resamples the same number of patterns for each measure."""
    (drawn,) = _draws(size, seed, resamples)
    drawn.flags.writeable = False
    return drawn


def _sum(values: Sequence[float]) -> float:
    """The exact sum; infinite where it is too large for a float."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


def _check_finite(values: Sequence[float]) -> None:
    if not all(math.isfinite(value) for value in values):
        message = "bootstrap: found inf or NaN, expected finite numbers"
        raise ValueError(message)
