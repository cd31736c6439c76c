"""The test of two candidates on one metric, and the family of all pairs: the arithmetic of a candidate set.

* One run each, right or wrong: McNemar's exact test; where a pattern has several rows, its sign-flip form over patterns.
* One run each, any value: the bootstrap of paired differences over patterns.
* Several seeds on a side: Student's test on the error over seeds and over patterns (:mod:`engram_bench.stats.seeds`).

Holm's method adjusts the p-values over all pairs of the metric, the family.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from engram_bench.records.candidates import PairedTest
from engram_bench.stats import seeds
from engram_bench.stats.paired import mean_test, sign_flip_exact
from engram_bench.stats.rates import Interval, holm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANY_PAIRS = 100
"""Number of pairs from which on intervals are drawn from 2,000 resamples instead of 10,000."""


class PairResult(NamedTuple):
    """First less second over the units that both have."""

    difference: float
    interval: Interval | None
    n: int
    better: int
    """Number of units on which the first has the larger value."""
    worse: int
    test: PairedTest
    p_value: float
    """Two-sided p-value."""


class Family(NamedTuple):
    """All pairs of one metric. Index pairs are in lexical order."""

    pairs: tuple[tuple[int, int], ...]
    tested: tuple[PairResult, ...]
    adjusted: tuple[float, ...]

    def better(self, alpha: float) -> set[tuple[int, int]]:
        """(first, second) where the first really has the larger value."""
        found = set()
        for (first, second), tested, adjusted in zip(self.pairs, self.tested, self.adjusted, strict=True):
            if adjusted <= alpha and tested.difference:
                found.add((first, second) if tested.difference > 0 else (second, first))
        return found


def family(
    sides: Sequence[NDArray[np.float64]], clusters: NDArray[np.intp], *, is_counted: bool, resamples: int | None = None
) -> Family:
    """Every two candidates tested on the units that both have; pairs without a shared unit are left out.

    Args:
        sides: Values of each candidate, a row per seed and a column per unit, NaN where there is none.
        clusters: Pattern of each column.
        is_counted: Whether units are right (1) or wrong (0), so that the exact test applies.
        resamples: Number of bootstrap resamples; None takes fewer for many pairs.
    """
    import numpy as np

    answered = [~np.isnan(side).any(axis=0) for side in sides]
    found: dict[tuple[int, int], PairResult] = {}
    all_pairs = list(combinations(range(len(sides)), 2))
    draws = resamples or (2_000 if len(all_pairs) > MANY_PAIRS else 10_000)
    for first, second in all_pairs:
        columns = answered[first] & answered[second]
        if columns.any():
            codes = np.unique(clusters[columns], return_inverse=True)[1]
            values = (sides[first][:, columns], sides[second][:, columns])
            found[first, second] = compare_sides(*values, codes, is_counted=is_counted, resamples=draws)
    return Family(tuple(found), tuple(found.values()), holm([each.p_value for each in found.values()]))


def compare_sides(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    clusters: NDArray[np.intp],
    *,
    is_counted: bool,
    resamples: int = 10_000,
) -> PairResult:
    """The test of two sides without a missing value.

    Args:
        first: Values of the first side, a row per seed and a column per unit.
        second: Values of the second side over the same units.
        clusters: Pattern of each column, numbered from 0 without a gap.
        is_counted: Whether units are right (1) or wrong (0).
        resamples: Number of bootstrap resamples.
    """
    import numpy as np

    changes = first.mean(axis=0) - second.mean(axis=0)
    better, worse = int(np.count_nonzero(changes > 1e-12)), int(np.count_nonzero(changes < -1e-12))
    if len(first) > 1 or len(second) > 1:
        crossed = seeds.difference(seeds.cells(first, clusters), seeds.cells(second, clusters))
        figures = (crossed.value, crossed.interval(), len(changes), better, worse)
        return PairResult(*figures, "seeds_and_cases", max(crossed.p_value(), least_p_value(changes, clusters)))
    sums = np.bincount(clusters, weights=changes).astype(np.float64)
    drawn = mean_test(sums, np.bincount(clusters).astype(np.float64), resamples=resamples)
    test: PairedTest = "sign_flip" if is_counted else "bootstrap"
    p_value = sign_flip_exact([round(each) for each in sums.tolist()]) if is_counted else drawn.p_value
    return PairResult(drawn.mean, drawn.interval, len(changes), better, worse, test, p_value)


def least_p_value(changes: NDArray[np.float64], clusters: NDArray[np.intp]) -> float:
    """The smallest two-sided p-value that so few changed patterns allow: that of a sign test on which all of them agree."""
    import numpy as np

    changed = np.abs(np.bincount(clusters, weights=changes)) > 1e-12
    return min(1.0, 2.0 ** (1 - int(np.count_nonzero(changed))))


def one_sided(
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None,
    clusters: NDArray[np.intp],
    *,
    is_counted: bool,
) -> float:
    """P-value of "the first side has the larger value", as a gate asks for a gain.

    Args:
        first: Values of the first side, or its differences from a baseline where *second* is None.
        second: Values of the second side.
        clusters: Pattern of each column.
        is_counted: Whether units are right (1) or wrong (0).
    """
    import numpy as np

    if len(first) > 1 or (second is not None and len(second) > 1):
        cells = None if second is None else seeds.cells(second, clusters)
        changes = first.mean(axis=0) - (0.0 if second is None else second.mean(axis=0))
        p_value = seeds.difference(seeds.cells(first, clusters), cells).p_value(two_sided=False)
        return max(p_value, least_p_value(changes, clusters) / 2)
    changes = first[0] - (0.0 if second is None else second[0])
    sums = np.bincount(clusters, weights=changes).astype(np.float64)
    if is_counted:
        return sign_flip_exact([round(each) for each in sums.tolist()], two_sided=False)
    p_value = mean_test(sums, np.bincount(clusters).astype(np.float64)).p_value
    return p_value / 2 if sums.sum() > 0 else 1 - p_value / 2
