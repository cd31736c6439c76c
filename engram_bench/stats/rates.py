"""Intervals, tests and sample sizes behind every verdict; pure functions of counts and numbers.

Functions import scipy.special when they run: numpy and scipy cost about a quarter of a second, which only a session that
judges a relative gate or draws a bootstrap has to pay.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

Interval = tuple[float, float]
"""(low, high), both included."""

# ── rates ───────────────────────────────────────────────────────────────────────────────────────


def wilson_interval(passed: float, total: float, z: float = 1.96) -> Interval:
    """Interval for the true pass rate behind *passed* of *total* cases.

    Args:
        passed: Number of cases that passed, 0..total; an effective sample size may make it a fraction.
        total: Number of scored cases, above 0.
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

    The interval is Wilson's at the effective sample size ``n / design effect``. The design effect is the cluster-robust
    variance of the rate over the binomial variance, at least 1. Clusters of one row give :func:`wilson_interval` itself;
    a cluster whose rows always agree counts about once. At a rate of 0 or 1, where no variance can be estimated, every
    cluster counts once (Kish's effective number where cluster sizes differ).

    Args:
        passed: Outcome of each row.
        clusters: Cluster of each row, in the same order.
        z: Normal quantile; 1.96 covers 95 %.

    Returns:
        (low, high), both in 0..1.

    Raises:
        ValueError: There are no rows, or the lengths differ.

    Source: Dean & Pagano (2015), J. Surv. Stat. Methodol. 3, 484-503; cluster-robust variance as in Miller (2024),
    arXiv 2411.00640; Kish (1965), Survey Sampling.
    """
    groups = grouped([float(row) for row in passed], clusters)
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
        ValueError: *num_passed* is outside 0..num_samples, or *k* is outside 1..num_samples.

    Source: Chen et al. (2021), arXiv 2107.03374, equation 1.
    """
    return 1 - pass_hat_k(num_samples, num_samples - num_passed, k)


def pass_hat_k(num_samples: int, num_passed: int, k: int) -> float:
    """Chance that all of *k* samples pass (pass^k), estimated without bias from *num_samples* samples; 0..1.

    Raises:
        ValueError: *num_passed* is outside 0..num_samples, or *k* is outside 1..num_samples.

    Source: Yao et al. (2024), arXiv 2406.12045 (tau-bench), section 3.
    """
    if not (0 <= num_passed <= num_samples and 1 <= k <= num_samples):
        message = f"pass_hat_k: {num_passed} of {num_samples} passed, k {k}, expected passed in 0..n and k in 1..n"
        raise ValueError(message)
    return math.comb(num_passed, k) / math.comb(num_samples, k)


# ── paired rates ────────────────────────────────────────────────────────────────────────────────


def mcnemar_exact(fixed: int, broken: int, *, two_sided: bool = False) -> float:
    """Probability of at least *fixed* of ``fixed + broken`` changed cases, if both directions were equally likely.

    This is the exact binomial form of McNemar's test, one-sided for "the candidate is better". Cases that did not change
    carry no information.

    Args:
        fixed: Number of cases that only the candidate passes.
        broken: Number of cases that only the baseline passes.
        two_sided: Whether to test "the two sides differ" instead: twice the smaller tail, at most 1.

    Returns:
        The p-value, 0..1; 1 where no case changed. The fewest changes with a value below 0.05 are five fixed and none
        broken (0.031).

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

    The number assumes that exactly *gain* will be observed, so it is a lower bound and not a power calculation: +10 pp
    needs 50 rows (5 fixed) with no row broken, and 100 with 10 % broken.

    Args:
        gain: Share of fixed rows minus share of broken rows, above 0 and at most 1; 0.1 is +10 pp.
        broken_share: Share of rows expected to break, 0..1; a share that leaves no room for the gain is reduced.
        alpha: Level of the test, above 0 and below 1.

    Returns:
        A number of rows, at least 1.

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

    # Doubling gives bounds and halving finds the number; a plain scan takes seconds for gains of 0.1 pp.
    high = 1
    while not shows(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return rows(high)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values adjusted for being judged together, in the given order; each at most 1 and at least its own value.

    Comparing the adjusted values with alpha keeps the probability of even one false alarm below alpha, however the tests
    depend on each other. A single p-value stays as it is.

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


def grouped(values: Sequence[float], clusters: Sequence[Hashable]) -> list[list[float]]:
    """The values of each cluster; the clusters are in order of appearance.

    Raises:
        ValueError: There are no values, or their number is not that of the cluster names.
    """
    if not len(values) == len(clusters) > 0:
        message = f"{len(values)} rows and {len(clusters)} cluster names, expected equal numbers of at least 1"
        raise ValueError(message)
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        groups[cluster].append(value)
    return list(groups.values())
