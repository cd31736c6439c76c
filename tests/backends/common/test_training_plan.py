"""What every training has in common: the order of examples, learning rates, checkpoints, identity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engram_bench.backends.common.training_plan import batch_indices, checkpoint_steps, identity_of, learning_rate_at
from engram_bench.models.encoding import Encoded
from engram_bench.records import Recipe

RECIPE = Recipe(steps=20, batch_size=4, learning_rate=1.0, warmup_steps=4)


def test_every_epoch_holds_every_example_once() -> None:
    seen = [index for step in range(5) for index in batch_indices(step, RECIPE, 10)]

    assert sorted(seen[:10]) == list(range(10))
    assert sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_batches_depend_on_seed_and_step_alone() -> None:
    assert batch_indices(3, RECIPE, 10) == batch_indices(3, RECIPE, 10)
    assert batch_indices(3, RECIPE, 10) != batch_indices(3, replace(RECIPE, seed=1), 10)


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert sorted(batch_indices(0, RECIPE, 2)) == [0, 0, 1, 1]


def test_learning_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [learning_rate_at(step, RECIPE) for step in range(20)]

    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[12] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.02
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_constant_schedule_keeps_its_rate() -> None:
    recipe = replace(RECIPE, schedule="constant", warmup_steps=0)

    assert {learning_rate_at(step, recipe) for step in range(20)} == {1.0}


@pytest.mark.parametrize(
    ("checkpoints", "steps"), [(0, []), (1, [20]), (3, [7, 13, 20]), (40, list(range(0, 21)))], ids=str
)
def test_checkpoints_are_evenly_spaced_and_end_with_the_last_step(checkpoints: Any, steps: Any) -> None:
    found = checkpoint_steps(replace(RECIPE, checkpoints=checkpoints))

    assert list(found) == steps
    assert all(folder == f"checkpoints/step-{step:06d}" for step, folder in found.items())


def test_identity_changes_with_all_that_changes_a_training() -> None:
    examples = [Encoded((1, 2, 3), 1)]
    first = identity_of(RECIPE, examples, "base", "float32")

    assert first == identity_of(RECIPE, [Encoded((1, 2, 3), 1)], "base", "float32")
    assert first not in {
        identity_of(replace(RECIPE, seed=1), examples, "base", "float32"),
        identity_of(RECIPE, [Encoded((1, 2, 4), 1)], "base", "float32"),
        identity_of(RECIPE, [Encoded((1, 2, 3), 2)], "base", "float32"),
        identity_of(RECIPE, examples, "other", "float32"),
        identity_of(RECIPE, examples, "base", "bfloat16"),
    }
