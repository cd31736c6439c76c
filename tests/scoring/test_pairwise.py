from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from engram_bench.scoring.pairwise import compare_sides, family, one_sided

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40)


def sides(rows: list[tuple[bool, ...]]) -> list[np.ndarray]:
    return [np.array([column], dtype=float) for column in zip(*rows, strict=True)]


@settings(max_examples=30, deadline=None)
@given(OUTCOMES)
def test_pairs_of_rates_are_mcnemars_and_holms(rows: list[tuple[bool, ...]]) -> None:
    found = family(sides(rows), np.arange(len(rows)), is_counted=True, resamples=20)

    plain = []
    for one, other in ((0, 1), (0, 2), (1, 2)):
        better = sum(row[one] and not row[other] for row in rows)
        changed = sum(row[one] != row[other] for row in rows)
        plain.append(binomtest(better, changed).pvalue if changed else 1.0)
    assert [each.p_value for each in found.tested] == pytest.approx(plain)
    ordered = sorted(plain)
    steps = [max(min(1.0, (3 - rank) * ordered[rank]) for rank in range(upto + 1)) for upto in range(3)]
    assert sorted(found.adjusted) == pytest.approx(steps)
    assert all(adjusted >= each.p_value - 1e-12 for each, adjusted in zip(found.tested, found.adjusted, strict=True))


@settings(max_examples=20, deadline=None)
@given(OUTCOMES, st.booleans(), st.randoms(use_true_random=False))
def test_a_pair_turned_around_says_the_opposite_and_order_of_rows_says_nothing(
    rows: list[tuple[bool, ...]], is_counted: bool, random: object
) -> None:
    one, other, _ = sides(rows)
    clusters = np.arange(len(rows))
    shuffled = np.array(sorted(range(len(rows)), key=lambda index: hash((index, str(random)))))

    there = compare_sides(one, other, clusters, is_counted=is_counted, resamples=200)
    back = compare_sides(other, one, clusters, is_counted=is_counted, resamples=200)
    again = compare_sides(one[:, shuffled], other[:, shuffled], clusters, is_counted=True, resamples=20)

    assert (there.better, there.worse) == (back.worse, back.better) == (again.better, again.worse)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_value == pytest.approx(back.p_value, abs=0 if is_counted else 0.15)
    if is_counted:
        assert again.p_value == pytest.approx(there.p_value)


def test_wordings_of_a_pattern_are_one_change() -> None:
    one, other = np.ones((1, 8)), np.zeros((1, 8))

    alone = compare_sides(one, other, np.arange(8), is_counted=True, resamples=20)
    together = compare_sides(one, other, np.arange(8) // 4, is_counted=True, resamples=20)

    assert (alone.p_value, together.p_value) == pytest.approx((2**-7, 0.5))


def test_units_that_one_side_lacks_are_left_out() -> None:
    one, other = np.array([[1.0, 1.0, np.nan, 1.0]]), np.array([[0.0, np.nan, 1.0, 1.0]])

    (found,) = family([one, other], np.arange(4), is_counted=True, resamples=20).tested

    assert (found.n, found.better, found.worse, found.difference) == (2, 1, 0, 0.5)


def test_sides_without_a_shared_unit_are_no_pair() -> None:
    one, other = np.array([[1.0, np.nan]]), np.array([[np.nan, 0.0]])

    assert family([one, other], np.arange(2), is_counted=True).pairs == ()


def test_a_gain_is_tested_in_its_direction() -> None:
    one, other = np.array([[1.0] * 6 + [0.0] * 4]), np.zeros((1, 10))

    assert one_sided(one, other, np.arange(10), is_counted=True) == pytest.approx(2**-6)
    assert one_sided(other, one, np.arange(10), is_counted=True) == 1.0
    assert one_sided(one * 3 + np.arange(10) / 10, other, np.arange(10), is_counted=False) < 0.01
    assert one_sided(other, one * 3 + np.arange(10) / 10, np.arange(10), is_counted=False) > 0.99


def test_several_seeds_on_a_side_ask_for_more_than_one() -> None:
    """Ten points found under one seed out of three are no difference of the recipes."""
    rng = np.random.default_rng(0)
    base = (rng.random(100) < 0.8).astype(float)
    lucky = np.array([np.ones(100), base, base])

    single = compare_sides(lucky[:1], base[None], np.arange(100), is_counted=True)
    recipe = compare_sides(lucky, np.array([base] * 3), np.arange(100), is_counted=True)

    assert single.p_value < 0.001
    assert recipe.p_value > 0.2
    assert (single.test, recipe.test) == ("sign_flip", "seeds_and_cases")
