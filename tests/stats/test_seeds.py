from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp, ttest_ind

from engram_bench.stats.seeds import Components, cells, components, difference, flakiness, over_seeds


def test_components_of_a_table_computed_by_hand() -> None:
    """Two seeds, three cases. Seed means 0 and 2/3, case means 1, 0, 0 would be the whole story without the rest."""
    values = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    # Mean squares: seeds 1/6, cases 1/2, rest 1/6; expected ones give 0 for seeds and (1/2 - 1/6) / 2 = 1/6 for cases.

    assert components(values) == pytest.approx(Components(0.0, 0.5, 0.5))


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        ([[1, 1, 1], [0, 0, 0]], (1, 0, 0)),
        ([[1, 0, 1], [1, 0, 1]], (0, 1, 0)),
        ([[1, 1], [1, 1]], (0, 0, 0)),
    ],
    ids=["seeds-alone", "cases-alone", "nothing"],
)
def test_shares_name_what_varies(values: list[list[float]], shares: tuple[float, ...]) -> None:
    assert components(np.array(values, dtype=float)) == pytest.approx(Components(*shares))


def test_cells_have_the_mean_of_the_rows() -> None:
    values = np.array([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])

    found = cells(values, np.array([0, 0, 1, 1]))

    assert found.tolist() == [[0.5, 1.0], [0.0, 0.5]]
    assert cells(values, np.array([0, 1, 1, 1])).mean(axis=1) == pytest.approx([0.75, 0.25])


def test_one_training_each_is_students_paired_test() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random((1, 30)), rng.random((1, 30))

    found = difference(first, second)

    expected = ttest_1samp(first[0] - second[0], 0)
    assert found.p_value() == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_the_error_is_that_of_seeds_and_cases_drawn_again() -> None:
    """The oracle is a bootstrap that draws seeds and cases (Owen 2007), corrected for the few seeds that it draws from."""
    rng = np.random.default_rng(5)
    values = rng.random((6, 1)) * 0.3 + rng.random((1, 40)) + 0.05 * rng.random((6, 40))

    drawn = [values[np.ix_(rng.integers(6, size=6), rng.integers(40, size=40))].mean() for _ in range(4000)]

    found = difference(values)
    corrected = math.sqrt(found.seeds_error**2 * 5 / 6 + found.cases_error**2 * 39 / 40)
    assert np.std(drawn) == pytest.approx(corrected, rel=0.05)
    assert found.error == pytest.approx(math.hypot(found.seeds_error, found.cases_error))


@pytest.mark.parametrize(("value", "p_value"), [(0.0, 1.0), (0.5, 0.0)])
def test_where_nothing_varies_only_a_difference_shows(value: float, p_value: float) -> None:
    found = difference(np.full((3, 5), value))

    assert (found.p_value(), found.interval()) == (p_value, (value, value))
    assert found.p_value(two_sided=False) == p_value


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(1, 4), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_a_difference_has_no_side(num_first: int, num_second: int, num_cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((num_first, num_cases)), rng.random((num_second, num_cases))

    there, back = difference(first, second), difference(second, first)

    assert there.value == pytest.approx(-back.value)
    assert there.p_value() == pytest.approx(back.p_value())
    assert there.p_value(two_sided=False) == pytest.approx(1 - back.p_value(two_sided=False))


def test_an_interval_over_seeds_is_students() -> None:
    values = [0.90, 0.94, 0.98]

    low, high = over_seeds(values)

    reach = student.ppf(0.975, 2) * 0.04 / math.sqrt(3)
    assert (low, high) == pytest.approx((0.94 - reach, 0.94 + reach))


def test_two_recipes_with_unequal_spread_are_compared_as_welch_does() -> None:
    first, second = [0.90, 0.94, 0.98], [0.70, 0.71, 0.72, 0.75]

    expected = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)

    assert over_seeds(first, second) == pytest.approx(tuple(expected))


def test_a_spread_of_one_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="1 seeds, expected at least 2"):
        over_seeds([0.9])


def test_seeds_that_agree_by_luck_vary_as_their_flaky_cases_do() -> None:
    """Two seeds of four cases, each right on another half: the means are equal, and the recipe is not known exactly."""
    lucky, sure = np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]), np.array([[1.0, 1, 0, 0]] * 2)

    assert flakiness(lucky) == pytest.approx(0.5 / 4)
    assert flakiness(sure) == flakiness(lucky[:1]) == 0
    reach = student.ppf(0.975, 1) * math.sqrt(0.125 / 2)
    assert over_seeds([0.5, 0.5], least=(flakiness(lucky), 0.0)) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert over_seeds([0.5, 0.5], least=(flakiness(sure), 0.0)) == (0.5, 0.5)
