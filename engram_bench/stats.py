"""Intervals, tests and sample sizes behind every verdict; pure functions of counts and numbers.

numpy and scipy.special are imported where they are used: together they cost about a quarter of a second, which only a
session that judges a relative gate or draws a bootstrap has to pay.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Interval = tuple[float, float]

MAX_DRAWS = 4_000_000
"""Resampled indices held at once (32 MB): a bootstrap of 100,000 rows goes through in slices."""

# ── rates ───────────────────────────────────────────────────────────────────────────────────────


def wilson_interval(passed: float, total: float, z: float = 1.96) -> Interval:
    """Interval for the true pass rate behind *passed* of *total* cases.

    Args:
        passed: Cases that passed, 0..total. Fractions are allowed: an effective sample size has them.
        total: Cases scored, more than 0.
        z: Normal quantile; 1.96 covers 95 %.

    Returns:
        (low, high), both in 0..1. Still an interval at 0 and at *total* passes, where ``p ± z·se`` shrinks to a point:
        10 of 10 gives (0.72, 1.0).

    Raises:
        ValueError: *total* is not positive, or *passed* is outside 0..total.

    Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212.
    """
    if not 0 <= passed <= total or total <= 0:
        message = f"wilson_interval: {passed} of {total} passed, expected 0 <= passed <= total and total > 0"
        raise ValueError(message)
    rate = passed / total
    spread = z * z / total
    centre = (rate + spread / 2) / (1 + spread)
    margin = math.sqrt(spread * (rate * (1 - rate) + spread / 4)) / (1 + spread)
    # At the two ends the bound is the rate itself; rounding would miss it by 1e-17.
    return (max(0.0, centre - margin) if passed else 0.0, min(1.0, centre + margin) if passed < total else 1.0)


def clustered_rate_interval(passed: Sequence[bool], clusters: Sequence[Hashable], z: float = 1.96) -> Interval:
    """Interval for a pass rate whose rows come in clusters, such as the wordings of one pattern.

    Wilson's interval at the effective sample size ``n / design effect``, the design effect being the cluster-robust
    variance of the rate over the binomial one, at least 1. Clusters of one row give :func:`wilson_interval` itself;
    clusters whose rows always agree count about once each. At a rate of 0 or 1, where no variance can be seen, every
    cluster counts once (Kish's effective number where their sizes differ).

    Args:
        passed: One entry per row.
        clusters: The cluster of each row, in the same order.
        z: Normal quantile; 1.96 covers 95 %.

    Raises:
        ValueError: No rows, or the lengths differ.

    Source: Dean & Pagano (2015), J. Surv. Stat. Methodol. 3, 484-503; cluster-robust variance as in Miller (2024),
    arXiv 2411.00640; Kish (1965), Survey Sampling.
    """
    groups = _grouped([float(row) for row in passed], clusters)
    total, rate = len(passed), sum(passed) / len(passed)
    effective = total**2 / sum(len(rows) ** 2 for rows in groups)
    if 0 < rate < 1 and len(groups) > 1:
        residuals = (sum(rows) - rate * len(rows) for rows in groups)
        robust = math.fsum(residual**2 for residual in residuals) / total**2 * len(groups) / (len(groups) - 1)
        binomial = rate * (1 - rate) / (total - 1)
        effective = total * min(1.0, binomial / robust) if robust else float(total)
    return wilson_interval(rate * effective, effective, z)


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Chance that at least one of *k* samples passes, estimated without bias from *num_samples* samples; 0..1.

    Raises:
        ValueError: Not ``0 <= num_passed <= num_samples`` or not ``1 <= k <= num_samples``.

    Source: Chen et al. (2021), arXiv 2107.03374, equation 1.
    """
    return 1 - pass_hat_k(num_samples, num_samples - num_passed, k)


def pass_hat_k(num_samples: int, num_passed: int, k: int) -> float:
    """Chance that all of *k* samples pass (pass^k), estimated without bias from *num_samples* samples; 0..1.

    Raises:
        ValueError: Not ``0 <= num_passed <= num_samples`` or not ``1 <= k <= num_samples``.

    Source: Yao et al. (2024), arXiv 2406.12045 (tau-bench), section 3.
    """
    if not (0 <= num_passed <= num_samples and 1 <= k <= num_samples):
        message = f"{num_passed} of {num_samples} passed, k {k}: expected passed in 0..n and k in 1..n"
        raise ValueError(message)
    return math.comb(num_passed, k) / math.comb(num_samples, k)


# ── paired rates ────────────────────────────────────────────────────────────────────────────────


def mcnemar_exact(fixed: int, broken: int, *, two_sided: bool = False) -> float:
    """How likely at least *fixed* of ``fixed + broken`` changed cases would be if changes went either way alike.

    The exact binomial form of McNemar's test, one-sided for "the candidate is better". Cases that did not change
    carry no information and are not asked for.

    Args:
        fixed: Cases only the candidate has right.
        broken: Cases only the baseline has right.
        two_sided: Test "the two differ" instead; twice the smaller tail, at most 1.

    Returns:
        The p-value, 0..1; 1 where nothing changed. Five fixed and none broken are the fewest below 0.05 (0.031).

    Raises:
        ValueError: A count is negative.

    Source: McNemar (1947), Psychometrika 12, 153-157; exact form as scipy.stats.binomtest(fixed, fixed + broken).
    """
    from scipy.special import bdtrc

    if fixed < 0 or broken < 0:
        message = f"mcnemar_exact: fixed {fixed}, broken {broken}, expected counts of at least 0"
        raise ValueError(message)
    if two_sided:
        return min(1.0, 2 * mcnemar_exact(max(fixed, broken), min(fixed, broken)))
    return float(bdtrc(fixed - 1, fixed + broken, 0.5))


def rows_needed(gain: float, *, broken_share: float = 0.0, alpha: float = 0.05) -> int:
    """Fewest paired rows on which a gain of *gain* passes the one-sided exact McNemar test.

    It supposes that *gain* is what will be seen, so it is a floor and not a power calculation: +10 pp with nothing
    broken needs 50 rows (5 fixed), with 10 % broken 100.

    Args:
        gain: Share fixed minus share broken, above 0 up to 1; 0.1 is +10 pp.
        broken_share: Share of rows expected to break, 0..1, as far as they leave room for the gain.
        alpha: Level of the test.

    Raises:
        ValueError: *gain* is not in (0, 1], *broken_share* not in 0..1 or *alpha* not in (0, 1).
    """
    if not (0 < gain <= 1 and 0 <= broken_share <= 1 and 0 < alpha < 1):
        message = f"rows_needed: gain {gain}, broken share {broken_share}, alpha {alpha}, expected each in 0..1"
        raise ValueError(message)

    def rows(net: int) -> int:
        return math.ceil(net / gain - 1e-9)  # 1e-9: 5 / 0.1 must stay 50 whatever the rounding

    def shows(net: int) -> bool:
        broken = min(math.ceil(rows(net) * broken_share - 1e-9), (rows(net) - net) // 2)
        return mcnemar_exact(broken + net, broken) <= alpha

    # Doubling brackets the answer, halving finds it; a plain scan takes seconds for gains of 0.1 pp.
    high = 1
    while not shows(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return rows(high)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values adjusted for being judged together, in the order given; each at most 1 and never below its own.

    Comparing the adjusted values with alpha keeps the chance of even one false alarm under alpha, however the tests
    depend on each other. One p-value stays as it is; none gives none.

    Raises:
        ValueError: A p-value is outside 0..1 or NaN.

    Source: Holm (1979), Scand. J. Stat. 6, 65-70.
    """
    if not all(0 <= p <= 1 for p in p_values):
        message = f"holm: p-values {list(p_values)}, expected each in 0..1"
        raise ValueError(message)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)


# ── paired means and ratios ─────────────────────────────────────────────────────────────────────


def bootstrap_mean_interval(
    differences: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval | None:
    """Interval for the mean of paired differences (candidate minus baseline, one per case).

    Args:
        differences: One number per case; the pairing is in the subtraction.
        clusters: The cluster of each difference (its pattern); whole clusters are drawn. None: every row is its own.
        seed: The same seed gives the same interval.
        resamples: Bootstrap resamples.
        level: Coverage aimed at.

    Returns:
        (low, high), a single point where all differences are equal; None for fewer than two clusters, which say nothing
        about how much the next one would differ.

    Raises:
        ValueError: Lengths differ, or a difference is not finite.

    Source: percentile bootstrap, Efron & Tibshirani (1993) chapter 13; percentiles widened for small samples as in
    Hesterberg (2015), Am. Stat. 69, 371-386, without which ten rows would cover 90 % instead of 95 %.
    """
    import numpy as np
    from scipy.special import ndtr, stdtrit

    _check_finite(differences)
    groups = (
        _grouped(differences, range(len(differences)) if clusters is None else clusters) if len(differences) else []
    )
    sums = np.array([math.fsum(rows) for rows in groups])
    sizes = np.array([len(rows) for rows in groups])

    def mean(drawn: NDArray[np.intp]) -> NDArray[np.float64]:
        means: NDArray[np.float64] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
        return means

    # Resampled means vary by (n - 1) / n too little and need Student's tails.
    n = max(2, len(groups))
    tail = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2)))
    return _bootstrap(mean, len(groups), seed=seed, resamples=resamples, tail=tail)


def bootstrap_median_interval(
    ratios: Sequence[float], *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Interval | None:
    """Interval for the median of paired ratios (candidate over baseline, one per timed round).

    One stray round of eight does not move it, as it would move a mean's. Arguments are those of
    :func:`bootstrap_mean_interval`. At 0.95 it covers 91 to 95 % of truths, from eight ratios on.

    Returns:
        (low, high), never outside the smallest and largest ratio; None for fewer than two.

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


def bootstrap_median_change_interval(
    old: Sequence[float], new: Sequence[float], *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Interval | None:
    """Interval for the median of *new* over the median of *old*, two samples that are not paired.

    Arguments are those of :func:`bootstrap_median_interval`; each sample is drawn by itself.

    Returns:
        (low, high); None where either has fewer than two values.

    Raises:
        ValueError: A value is not finite.
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
    """Percentile interval of *statistic* over resamples; it gets indices 0..size-1, one resample a row."""
    import numpy as np

    if size < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, MAX_DRAWS // size)
    values = np.concatenate(
        [
            statistic(rng.integers(size, size=(min(rows, resamples - start), size)))  # (resamples, size)
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def _grouped(values: Sequence[float], clusters: Sequence[Hashable]) -> list[list[float]]:
    """The values of each cluster, clusters in order of appearance."""
    if not len(values) == len(clusters) > 0:
        message = f"{len(values)} rows and {len(clusters)} cluster names, expected as many of both and at least one"
        raise ValueError(message)
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        groups[cluster].append(value)
    return list(groups.values())


def _check_finite(values: Sequence[float]) -> None:
    if not all(math.isfinite(value) for value in values):
        message = "a bootstrap got inf or NaN, expected finite numbers"
        raise ValueError(message)
