"""Statistics against tables computed by hand and against scipy."""

import math
import random
from collections.abc import Callable
from itertools import combinations
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.stats.rates import (
    clustered_rate_interval,
    holm,
    mcnemar_exact,
    pass_at_k,
    pass_hat_k,
    rows_needed,
    wilson_interval,
)

counts = st.integers(0, 2_000)


rates = st.integers(1, 5_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


# ── rates ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        (10, 10, 0.7225, 1.0),
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (1, 1, 0.2065, 1.0),
        (125, 131, 0.9037, 0.9788),
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), Stat. Med. 17, 857, table I, method 3
        (15, 148, 0.0624, 0.1605),  # the same
        (0, 20, 0.0, 0.1611),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
    ],
)
def test_wilson_interval_of_known_tables(passed: float, total: float, low: float, high: float) -> None:
    assert wilson_interval(passed, total) == pytest.approx((low, high), abs=5e-5)


@given(rates)
def test_wilson_interval_is_that_of_scipy(rate: tuple[int, int]) -> None:
    from scipy import stats as scipy_stats  # a second, which no collection waits for

    expected = scipy_stats.binomtest(*rate).proportion_ci(method="wilson")

    z = scipy_stats.norm.ppf(0.975)
    assert wilson_interval(*rate, z=z) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(rates)
def test_wilson_interval_holds_the_rate_and_stays_in_0_to_1(rate: tuple[int, int]) -> None:
    low, high = wilson_interval(*rate)

    assert 0 <= low <= rate[0] / rate[1] <= high <= 1
    assert low < high


@pytest.mark.parametrize(("passed", "total"), [(0, 0), (2, 1), (-1, 5)])
def test_wilson_interval_rejects_counts_that_cannot_be(passed: float, total: float) -> None:
    with pytest.raises(ValueError, match=f"wilson_interval: {passed} of {total} passed, expected"):
        wilson_interval(passed, total)


@given(st.lists(st.booleans(), min_size=1))
def test_clusters_of_one_row_give_wilson_itself(passed: list[bool]) -> None:
    assert clustered_rate_interval(passed, range(len(passed))) == pytest.approx(
        wilson_interval(sum(passed), len(passed))
    )


@pytest.mark.parametrize(("passed", "high"), [(True, 1.0), (False, 0.2775)], ids=["all", "none"])
def test_without_visible_variance_every_cluster_counts_once(passed: bool, high: float) -> None:
    interval = clustered_rate_interval([passed] * 40, [row // 4 for row in range(40)])

    assert interval[1] == pytest.approx(high, abs=5e-5)
    assert interval == pytest.approx(wilson_interval(10 * passed, 10))


def test_rows_that_repeat_their_cluster_add_almost_nothing() -> None:
    patterns = [True] * 30 + [False] * 20
    low, high = clustered_rate_interval([p for p in patterns for _ in range(4)], [i // 4 for i in range(200)])

    assert (low, high) == pytest.approx(wilson_interval(30, 50), abs=0.003)


def test_design_effect_by_hand() -> None:
    # Rates 2/2, 1/2, 0/2: residuals 1, 0, -1; robust variance 2/36 * 3/2 = 1/12; binomial .25/5 = 1/20;
    # 6 rows count as 6 * (1/20) / (1/12) = 3.6.
    interval = clustered_rate_interval([True, True, True, False, False, False], ["a", "a", "b", "b", "c", "c"])

    assert interval == pytest.approx(wilson_interval(1.8, 3.6))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1))
def test_clustered_interval_is_never_narrower_and_does_not_depend_on_order(rows: list[tuple[bool, int]]) -> None:
    passed, clusters = zip(*rows, strict=True)
    low, high = clustered_rate_interval(passed, clusters)
    plain_low, plain_high = wilson_interval(sum(passed), len(passed))
    shuffled = random.Random(0).sample(rows, len(rows))

    assert low <= plain_low + 1e-12
    assert high >= plain_high - 1e-12
    assert clustered_rate_interval([p for p, _ in shuffled], [c for _, c in shuffled]) == pytest.approx((low, high))


@pytest.mark.parametrize(("passed", "clusters"), [([], []), ([True], ["a", "b"])], ids=["empty", "lengths"])
def test_clustered_interval_rejects(passed: list[bool], clusters: list[str]) -> None:
    with pytest.raises(ValueError, match="expected equal numbers of at least 1"):
        clustered_rate_interval(passed, clusters)


@pytest.mark.parametrize(
    ("n", "c", "k", "at", "hat"),
    [(5, 2, 1, 0.4, 0.4), (5, 2, 2, 0.7, 0.1), (5, 0, 3, 0.0, 0.0), (5, 5, 5, 1.0, 1.0), (4, 3, 2, 1.0, 0.5)],
)
def test_pass_at_k_and_pass_hat_k_by_hand(n: int, c: int, k: int, at: float, hat: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(at)
    assert pass_hat_k(n, c, k) == pytest.approx(hat)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_pass(samples: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    subsets = list(combinations(samples, k))

    assert pass_at_k(len(samples), sum(samples), k) == pytest.approx(mean(any(s) for s in subsets))
    assert pass_hat_k(len(samples), sum(samples), k) == pytest.approx(mean(all(s) for s in subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 0), (5, 2, 6), (0, 0, 1)])
@pytest.mark.parametrize("metric", [pass_at_k, pass_hat_k])
def test_pass_metrics_reject_counts_that_cannot_be(
    metric: Callable[[int, int, int], float], n: int, c: int, k: int
) -> None:
    with pytest.raises(ValueError, match=rf"of {n} passed, k {k}, expected"):
        metric(n, c, k)


# ── paired rates ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fixed", "broken", "one_sided", "two_sided"),
    [
        (0, 0, 1.0, 1.0),
        (1, 0, 0.5, 1.0),
        (4, 0, 0.0625, 0.125),
        (5, 0, 0.03125, 0.0625),
        (6, 0, 0.015625, 0.03125),
        (0, 5, 1.0, 0.0625),
        (5, 1, 7 / 64, 14 / 64),
        (8, 1, 10 / 512, 20 / 512),
        (3, 3, 42 / 64, 1.0),
    ],
)
def test_mcnemar_by_hand(fixed: int, broken: int, one_sided: float, two_sided: float) -> None:
    assert mcnemar_exact(fixed, broken) == pytest.approx(one_sided)
    assert mcnemar_exact(fixed, broken, two_sided=True) == pytest.approx(two_sided)


@given(counts, counts)
def test_mcnemar_is_the_binomial_test_of_scipy(fixed: int, broken: int) -> None:
    from scipy import stats as scipy_stats  # a second, which no collection waits for

    n = fixed + broken
    one = scipy_stats.binomtest(fixed, n, alternative="greater").pvalue if n else 1.0
    two = scipy_stats.binomtest(fixed, n).pvalue if n else 1.0

    assert mcnemar_exact(fixed, broken) == pytest.approx(one, rel=1e-9)
    assert mcnemar_exact(fixed, broken, two_sided=True) == pytest.approx(two, rel=1e-9)


@given(counts, counts)
def test_mcnemar_falls_with_every_fixed_and_rises_with_every_broken(fixed: int, broken: int) -> None:
    p = mcnemar_exact(fixed, broken)

    assert 0 <= mcnemar_exact(fixed + 1, broken) <= p + 1e-12
    assert p - 1e-12 <= mcnemar_exact(fixed, broken + 1) <= 1


def test_mcnemar_takes_a_hundred_thousand_changes() -> None:
    assert mcnemar_exact(51_000, 49_000) == pytest.approx(1.2943580e-10, rel=1e-6)
    assert mcnemar_exact(100_000, 0) == 0.0


def test_mcnemar_rejects_negative_counts() -> None:
    with pytest.raises(ValueError, match="fixed -1, broken 2, expected counts of at least 0"):
        mcnemar_exact(-1, 2)


@pytest.mark.parametrize(
    ("gain", "broken_share", "rows"),
    [
        (0.1, 0.0, 50),  # 5 fixed of 50: 2^-5
        (0.2, 0.0, 25),
        (1.0, 0.0, 5),
        (0.03, 0.0, 167),  # 5 / 0.03 = 166.7
        (0.1, 0.1, 100),  # 20 fixed, 10 broken: 0.0494; 9 net of 90 (18, 9): 0.0610
        (0.6, 0.9, 12),  # room for 2 broken: 9 fixed, 0.0327; 8 fixed and 2 broken of 10: 0.0547
    ],
)
def test_rows_needed_by_hand(gain: float, broken_share: float, rows: int) -> None:
    assert rows_needed(gain, broken_share=broken_share) == rows


@given(st.integers(1, 100), st.integers(0, 50))
def test_rows_needed_are_enough_for_the_gain(gain_pp: int, broken_pp: int) -> None:
    gain, share = gain_pp / 100, min(broken_pp, (100 - gain_pp) // 2) / 100
    rows = rows_needed(gain, broken_share=share)
    net = math.floor(rows * gain + 1e-9)
    broken = min(math.ceil(rows * share - 1e-9), (rows - net) // 2)

    assert mcnemar_exact(broken + net, broken) <= 0.05


@given(st.integers(1, 100))
def test_rows_needed_with_nothing_broken_are_the_fewest(gain_pp: int) -> None:
    rows = rows_needed(gain_pp / 100)

    assert mcnemar_exact((rows - 1) * gain_pp // 100, 0) > 0.05


@pytest.mark.parametrize(("gain", "share", "alpha"), [(0, 0, 0.05), (1.1, 0, 0.05), (0.1, -0.1, 0.05), (0.1, 0, 0)])
def test_rows_needed_rejects(gain: float, share: float, alpha: float) -> None:
    with pytest.raises(ValueError, match=f"rows_needed: gain {gain}, broken share {share}, alpha {alpha}, expected"):
        rows_needed(gain, broken_share=share, alpha=alpha)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], ()),
        ([0.04], (0.04,)),
        ([0.01, 0.04, 0.03, 0.005], (0.03, 0.06, 0.06, 0.02)),
        ([0.02, 0.02], (0.04, 0.04)),
        ([0.9, 0.6], (1.0, 1.0)),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: tuple[float, ...]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_the_value_itself_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)

    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(p_values) * max(p_values))
    assert min(adjusted) == pytest.approx(min(1.0, len(p_values) * min(p_values)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - rank) * p_values[index] > alpha:
            break
        rejected.add(index)

    assert {i for i, q in enumerate(holm(p_values)) if q <= alpha} == rejected


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_rejects_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"expected each in 0\.\.1"):
        holm([0.5, p])
