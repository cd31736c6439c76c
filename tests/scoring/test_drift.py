"""Measures beside the cases, against sums done by hand."""

from __future__ import annotations

import math

import pytest

from engram_bench.scoring.drift import control_kl, perplexity, router_measures


def test_divergence_is_the_mean_over_controls() -> None:
    measure = control_kl([0.1, 0.3])

    assert measure is not None
    assert measure.candidate is not None
    assert (measure.name, measure.candidate.n, measure.higher_is_better) == ("control_kl", 2, False)
    assert measure.candidate.value == pytest.approx(0.2)


def test_without_controls_there_is_no_divergence() -> None:
    assert control_kl([]) is None


def test_perplexity_of_a_fair_coin_is_two() -> None:
    measure = perplexity([[math.log(2)] * 3, [math.log(2)]], [[math.log(4)] * 3, [math.log(4)]])

    assert measure.baseline is not None
    assert measure.candidate is not None
    assert measure.ratio is not None
    assert measure.baseline.value == pytest.approx(2)
    assert measure.candidate.value == pytest.approx(4)
    assert measure.candidate.n == 4
    assert measure.ratio.value == pytest.approx(2)


def test_recall_is_of_held_out_wordings_and_precision_counts_controls() -> None:
    recall, precision = router_measures([True, False], [True], "a note")

    assert recall.candidate is not None
    assert precision.candidate is not None
    assert (recall.name, recall.candidate.passed, recall.candidate.n) == ("router_recall", 1, 2)
    assert (precision.name, precision.candidate.passed, precision.candidate.n) == ("router_precision", 1, 2)
    assert (recall.note, precision.note) == ("a note", "a note")


def test_a_router_that_decided_nothing_has_no_measures() -> None:
    assert router_measures([], [], "") == ()
