"""Tests of two candidates on the same cases: exact for counts, bootstrapped for means; rows come in clusters, their patterns.

Functions import numpy and scipy.special when they run, as in :mod:`engram_bench.stats.rates`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from engram_bench.stats.rates import Interval, mcnemar_exact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_EXACT = 2_000
"""Largest number of changed clusters of unequal sizes whose every combination of signs is counted."""
DRAWS = 2_000_000
"""Largest number of clusters that a bootstrap draws, as in :mod:`engram_bench.scoring.pairs`; never fewer than 300 resamples."""
FEWEST_BEYOND = 20
"""Fewest resamples on the other side of 0 that are counted; of fewer, the tail is Student's at the bootstrap's error."""


class PairedMean(NamedTuple):
    """A mean of paired differences, its interval and its p-value."""

    mean: float
    interval: Interval | None
    """None for fewer than two clusters."""
    p_value: float


def sign_flip_exact(changes: Sequence[int], *, two_sided: bool = True) -> float:
    """Probability of a sum at least as large as that of *changes*, if each could as well have had the other sign.

    The test is McNemar's exact test on rows that come in clusters. A cluster whose rows change together counts once, with
    the size of its change. Where every cluster has one row, the p-value is that of :func:`mcnemar_exact`.

    Args:
        changes: Net change of each cluster: rows that only the one side passes less rows that only the other side does.
        two_sided: Whether to test "the two sides differ" instead of "the first side is better".

    Returns:
        The p-value, 0..1; 1 where nothing changed. More than ``MOST_EXACT`` changed clusters of unequal sizes have the
        normal distribution's p-value, with a correction for continuity.

    Source: Fisher (1935), The Design of Experiments, section 21; Pitman (1937), J. R. Stat. Soc. Suppl. 4, 119-130; McNemar
    (1947), Psychometrika 12, 153-157.
    """
    total, sizes = sum(changes), Counter(abs(change) for change in changes if change)
    if len(sizes) < 2:
        better = sum(change > 0 for change in changes)
        return mcnemar_exact(better, sizes.total() - better, two_sided=two_sided)
    if sizes.total() > MOST_EXACT:
        return _normal_tail(total, sizes, two_sided=two_sided)
    chances = _sums(tuple(sorted(sizes.items())))
    largest = (len(chances) - 1) // 2
    at_least = abs(total) if two_sided else total
    tail = math.fsum(chances[largest + at_least :])
    return min(1.0, 2 * tail) if two_sided else min(1.0, tail)


def mean_test(
    sums: NDArray[np.float64],
    sizes: NDArray[np.float64],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> PairedMean:
    """The mean of paired differences with its bootstrap interval, and the two-sided p-value of "the mean is 0".

    The p-value is the one at which the interval would just touch 0. No p-value is below that of a sign test on which all
    changed clusters agree, so that three equal differences prove nothing.

    Args:
        sums: Sum of the differences of each cluster.
        sizes: Number of differences of each cluster.
        seed: Seed of the draws; the same seed gives the same result.
        resamples: Largest number of bootstrap resamples; whole clusters are drawn.
        level: Coverage of the interval, 0..1.

    Source: as :func:`engram_bench.stats.bootstrap.mean_interval`; p-values by inversion of the interval, Efron & Tibshirani
    (1993) section 15.4.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    mean, n = float(sums.sum() / sizes.sum()), len(sums)
    if n < 2:
        return PairedMean(mean, None, 1.0)
    resamples = min(resamples, max(300, DRAWS // n))
    drawn = _drawn(n, seed, resamples)
    means = drawn @ sums / (drawn @ sizes)
    wider = math.sqrt((n - 1) / n)
    tail = float(ndtr(stdtrit(n - 1, (1 - level) / 2) / wider))
    low, high = np.quantile(means, (tail, 1 - tail))
    if not np.any(sums):
        return PairedMean(mean, (float(low), float(high)), 1.0)
    beyond = int(np.count_nonzero(means * math.copysign(1, mean) <= 0))
    spread = float(means.std())
    if beyond >= FEWEST_BEYOND:
        quantile = float(ndtri(min(0.5, beyond / resamples)))
    else:
        quantile = -abs(mean) / spread if spread else -math.inf
    p_value = 2 * float(stdtr(n - 1, quantile * wider))
    floor = 2.0 ** (1 - int(np.count_nonzero(sums)))
    return PairedMean(mean, (float(low), float(high)), min(1.0, max(p_value, floor)))


@lru_cache(maxsize=64)
def _sums(sizes: tuple[tuple[int, int], ...]) -> NDArray[np.float64]:
    """Chance of each sum of changes with random signs, from the smallest sum to the largest.

    Args:
        sizes: Size of a change, and the number of clusters with that size.
    """
    import numpy as np

    chances = np.ones(1)
    for size, count in sizes:
        part = np.zeros(2 * size * count + 1)
        part[:: 2 * size] = _binomial(count)
        chances = np.convolve(chances, part)
    return chances


def _normal_tail(total: int, sizes: Counter[int], *, two_sided: bool) -> float:
    """Probability of a sum of at least *total* by the normal distribution; sums of flipped signs are two apart."""
    from scipy.special import ndtr

    spread = math.sqrt(sum(size**2 * count for size, count in sizes.items()))
    if two_sided:
        return min(1.0, 2 * float(ndtr((1 - abs(total)) / spread)))
    return float(ndtr((1 - total) / spread))


def _binomial(count: int) -> NDArray[np.float64]:
    """Chance of 0 to *count* heads among *count* fair coins."""
    import numpy as np
    from scipy.special import gammaln

    heads = np.arange(count + 1)
    logs = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1) - count * math.log(2)
    chances: NDArray[np.float64] = np.exp(logs)
    return chances


@lru_cache(maxsize=2)
def _drawn(size: int, seed: int, resamples: int) -> NDArray[np.float64]:
    """How often each of *size* clusters is drawn in each resample; shared by all pairs over the same number of clusters."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return rng.multinomial(size, np.full(size, 1 / size), size=resamples).astype(float)
