"""What a sweep looks for, and which trial is the best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram_bench.errors import GateSyntaxError, UsageError
from engram_bench.records import Estimate, Trial
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.objective import best, parse_objective, rivals
from tests.made_up import both, run_of

RUN = run_of(both("f/a", False, True), both("f/b", False, True), both("f/c", True, False))
OBJECTIVE = parse_objective("max generalization where retention >= 95%")
TRIAL = Trial(1, {"rank": 4}, "done", Estimate(0.8, 100, (0.7, 0.9)), (0.0,), steps=100)


def test_an_objective_reads_its_value_and_its_gates() -> None:
    objective = parse_objective(" max accuracy where accuracy >= 50% and accuracy >= +10pp ")
    comparison = compare(RUN)

    assert objective.value(comparison).value == pytest.approx(2 / 3)
    assert objective.excesses(comparison) == pytest.approx((50 - 200 / 3, 10 - 100 / 3))
    assert parse_objective("min answer_tokens").gates == ()


def test_a_short_name_of_a_metric_is_taken() -> None:
    assert parse_objective("max consistency").metric == "consistent_accuracy"


@pytest.mark.parametrize(
    "text", ["", "accuracy", "best accuracy", "max accuracy where", "max accuracy where x", "max a b"]
)
def test_another_grammar_is_refused(text: str) -> None:
    with pytest.raises(GateSyntaxError):
        parse_objective(text)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'accuracy'"):
        parse_objective("max acuracy")


@pytest.mark.parametrize("text", ["max generalization", "max accuracy where retention >= 95%"])
def test_what_was_not_measured_is_an_error(text: str) -> None:
    objective, comparison = parse_objective(text), compare(RUN)

    with pytest.raises(UsageError, match="was not measured"):
        (objective.excesses if objective.gates else objective.value)(comparison)


def test_the_best_trial_passes_every_gate() -> None:
    higher = replace(TRIAL, number=2, value=Estimate(0.9, 100))
    outside = replace(higher, number=3, value=Estimate(0.99, 100), excesses=(0.1,))
    pruned = replace(higher, number=4, value=Estimate(0.99, 100), state="pruned")

    assert best([TRIAL, higher, outside, pruned], OBJECTIVE) is higher
    assert best([TRIAL, higher], parse_objective("min generalization")) is TRIAL
    assert best([outside, pruned], OBJECTIVE) is None


def test_of_equal_trials_the_shorter_training_is_better() -> None:
    shorter = replace(TRIAL, number=2, steps=50)

    assert best([TRIAL, shorter], OBJECTIVE) is shorter


def test_rivals_are_inside_the_interval_of_the_best() -> None:
    near, far = replace(TRIAL, value=Estimate(0.71, 100)), replace(TRIAL, value=Estimate(0.6, 100))

    assert rivals([TRIAL, near, far], TRIAL) == [near]
    assert rivals([near], replace(TRIAL, value=Estimate(0.8, 100))) == []
