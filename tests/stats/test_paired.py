from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from engram_bench.stats import paired
from engram_bench.stats.bootstrap import mean_interval
from engram_bench.stats.paired import mean_test, sign_flip_exact
from engram_bench.stats.rates import mcnemar_exact

CHANGES = st.lists(st.integers(-3, 3), max_size=8)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (0, 5), (12, 3), (30, 25), (1, 1), (143, 0)])
def test_single_rows_give_mcnemars_exact_test(better: int, worse: int) -> None:
    changes = [1] * better + [-1] * worse + [0] * 7
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0

    assert sign_flip_exact(changes) == pytest.approx(expected, rel=1e-9)
    assert sign_flip_exact(changes, two_sided=False) == pytest.approx(mcnemar_exact(better, worse), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(CHANGES)
def test_every_flip_of_signs_is_counted(changes: list[int]) -> None:
    sums = [
        sum(sign * change for sign, change in zip(signs, changes, strict=True))
        for signs in product((-1, 1), repeat=len(changes))
    ]
    at_least = sum(abs(total) >= abs(sum(changes)) for total in sums) / len(sums)
    above = sum(total >= sum(changes) for total in sums) / len(sums)

    assert sign_flip_exact(changes) == pytest.approx(at_least)
    assert sign_flip_exact(changes, two_sided=False) == pytest.approx(above)


@settings(max_examples=30, deadline=None)
@given(CHANGES)
def test_the_two_sided_test_has_no_direction(changes: list[int]) -> None:
    assert sign_flip_exact(changes) == sign_flip_exact([-change for change in reversed(changes)])


def test_rows_that_change_together_count_once() -> None:
    """Ten wordings of one pattern prove no more than one."""
    assert sign_flip_exact([10]) == 1.0
    assert sign_flip_exact([2] * 6) == sign_flip_exact([1] * 6) == pytest.approx(0.03125)


def test_the_interval_of_a_mean_is_that_of_the_comparison() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.3, 1, 60)

    found = mean_test(values, np.ones(60))

    assert found.mean == pytest.approx(values.mean())
    assert found.interval == pytest.approx(mean_interval(values.tolist()), abs=0.02)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.25, 0.3, 0.4, 1.5])
def test_a_p_value_below_five_per_cent_and_an_interval_without_zero_are_one(shift: float) -> None:
    values = np.random.default_rng(2).normal(0, 1, 80)
    values += shift - values.mean()

    mean, interval, p_value = mean_test(values, np.ones(80))

    assert interval is not None
    assert (p_value < 0.05) == (not interval[0] <= 0 <= interval[1])
    assert mean == pytest.approx(shift)


@pytest.mark.parametrize(
    ("sums", "p_value"), [([0.0] * 9, 1.0), ([1.0] * 3, 0.25), ([2.0], 1.0)], ids=["no-change", "three-equal", "one"]
)
def test_a_few_clusters_prove_no_more_than_their_signs(sums: list[float], p_value: float) -> None:
    assert mean_test(np.array(sums), np.ones(len(sums))).p_value == p_value


def test_a_difference_far_from_zero_has_a_p_value_beyond_the_resamples() -> None:
    """Over 1,225 pairs, Holm asks for less than one resample in ten thousand."""
    values = np.random.default_rng(3).normal(1, 1, 143)

    assert mean_test(values, np.ones(143)).p_value < 1e-9


def test_a_hundred_thousand_rows_are_tested_within_bounds() -> None:
    """Neither a table of all sums nor one of all draws is ever larger than a few hundred megabytes."""
    changes = [1] * 2_000 + [-1] * 1_900 + [2] * 300 + [-2] * 300 + [0] * 100_000

    assert sign_flip_exact(changes) == pytest.approx(2 * norm.sf(99 / math.sqrt(3_900 + 4 * 600)))
    assert sign_flip_exact([1] * 30_000 + [-1] * 29_000) == pytest.approx(mcnemar_exact(30_000, 29_000, two_sided=True))


def test_the_normal_tail_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [1] * 80 + [-1] * 60 + [2] * 30 + [-2] * 25
    exact = sign_flip_exact(changes), sign_flip_exact(changes, two_sided=False)

    monkeypatch.setattr(paired, "MOST_EXACT", 10)

    assert (sign_flip_exact(changes), sign_flip_exact(changes, two_sided=False)) == pytest.approx(exact, rel=0.01)
