"""Bootstrap intervals: of the sample they are drawn from, repeatable, and as wide as they claim."""

import math
import random
from collections.abc import Callable
from statistics import mean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.stats.bootstrap import mean_interval, median_change_interval, median_interval
from engram_bench.stats.rates import Interval

finite = st.floats(-1e6, 1e6)


def found(interval: Interval | None) -> Interval:
    """The interval, of which there must be one."""
    assert interval is not None
    return interval


@given(st.lists(finite, min_size=2, max_size=40))
@settings(max_examples=30, deadline=None)
def test_bootstrap_intervals_hold_the_sample_and_stay_in_its_range(values: list[float]) -> None:
    slack = 1e-6
    for interval, centre in ((mean_interval, mean(values)), (median_interval, median(values))):
        low, high = found(interval(values, resamples=500))
        assert min(values) - slack <= low <= high <= max(values) + slack
        assert (low - slack <= centre <= high + slack) or len(set(values)) > 2


def test_bootstrap_mean_agrees_with_the_t_interval_on_a_normal_sample() -> None:
    from scipy import stats as scipy_stats  # a second, which no collection waits for

    sample = np.random.default_rng(1).normal(3.0, 2.0, size=60)
    expected = scipy_stats.t.interval(0.95, 59, loc=sample.mean(), scale=sample.std(ddof=1) / math.sqrt(60))

    assert mean_interval(sample.tolist()) == pytest.approx(expected, abs=0.05)


def test_bootstrap_mean_covers_the_truth_on_small_samples() -> None:
    """A plain percentile interval would cover 88 % here."""
    rng = np.random.default_rng(0)
    trials = 400
    covered = 0
    for trial in range(trials):
        low, high = found(mean_interval(rng.normal(size=8).tolist(), seed=trial, resamples=1_000))
        covered += low <= 0 <= high

    assert 0.92 <= covered / trials <= 0.98


def test_bootstrap_of_clusters_draws_whole_clusters() -> None:
    clusters = [row // 10 for row in range(200)]
    rng = np.random.default_rng(3)
    values = [float(level) for level in rng.normal(size=20) for _ in range(10)]

    by_cluster = found(mean_interval(values, clusters=clusters))

    assert by_cluster == pytest.approx(mean_interval(values[::10]))
    row_low, row_high = found(mean_interval(values))
    assert by_cluster[1] - by_cluster[0] > 2.5 * (row_high - row_low)


def test_bootstrap_weighs_rows_and_not_clusters() -> None:
    assert mean_interval([0.0] * 99 + [1.0], clusters=["big"] * 99 + ["small"]) == (0.0, 1.0)
    assert mean_interval([2.0] * 5, clusters="aaabb") == (2.0, 2.0)


@pytest.mark.parametrize("interval", [mean_interval, median_interval])
def test_bootstrap_is_the_same_for_a_seed_and_sliced_or_not(
    monkeypatch: pytest.MonkeyPatch, interval: Callable[..., Interval | None]
) -> None:
    values = [0.9, 1.1, 1.0, 1.3, 0.7]
    whole = interval(values, seed=7, resamples=1_000)

    monkeypatch.setattr("engram_bench.stats.bootstrap.KEPT_DRAWS", 0)
    monkeypatch.setattr("engram_bench.stats.bootstrap.MAX_DRAWS", 500)

    assert interval(values, seed=7, resamples=1_000) == whole
    assert interval(values, seed=8, resamples=1_000) is not None


@pytest.mark.parametrize("values", [[], [1.0]], ids=["none", "one"])
@pytest.mark.parametrize("interval", [mean_interval, median_interval])
def test_fewer_than_two_rows_have_no_interval(interval: Callable[..., Interval | None], values: list[float]) -> None:
    assert interval(values) is None


def test_one_cluster_has_no_interval() -> None:
    assert mean_interval([1.0, 2.0], clusters=["a", "a"]) is None


@pytest.mark.parametrize("interval", [mean_interval, median_interval])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_bootstrap_rejects_what_is_not_finite(interval: Callable[..., Interval | None], value: float) -> None:
    with pytest.raises(ValueError, match="expected finite numbers"):
        interval([1.0, value])


def test_bootstrap_median_shrugs_off_one_slow_round() -> None:
    low, high = found(median_interval([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 5.0]))

    assert 0.97 < low <= 1.0 <= high < 1.1


def test_change_of_medians_has_no_width_where_nothing_varies() -> None:
    assert median_change_interval([2.0] * 8, [1.0] * 8) == (0.5, 0.5)


def test_change_of_medians_covers_the_truth_of_two_noisy_samples() -> None:
    draw = random.Random(7)
    old, new = ([draw.gauss(centre, 0.05) for _ in range(40)] for centre in (1.0, 0.9))

    low, high = found(median_change_interval(old, new))

    assert low < 0.9 < high < 1.0


@pytest.mark.parametrize(("old", "new"), [([1.0], [1.0, 1.0]), ([1.0, 1.0], [])], ids=["one-old", "no-new"])
def test_change_of_medians_needs_two_of_each(old: list[float], new: list[float]) -> None:
    assert median_change_interval(old, new) is None


def test_numbers_that_no_run_has_raise_nothing() -> None:
    assert mean_interval([1e308, 1e308, -1e308, 1e308], clusters=[0, 0, 1, 2]) is not None
    assert median_interval([1e308, -1e308, 1e308, 1e300]) is not None
