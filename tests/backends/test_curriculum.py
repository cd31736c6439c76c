"""Which examples a step takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.backends.curriculum import Curriculum
from engram_bench.records import Recipe

RECIPE = Recipe(batch_size=4)


def losses(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_the_first_epoch_takes_every_example_once() -> None:
    curriculum = Curriculum(12, RECIPE)

    taken = [index for step in range(3) for index in curriculum.batch(step)]

    assert sorted(taken) == list(range(12))


def test_later_batches_hold_unknown_examples_and_a_few_known_ones() -> None:
    curriculum = Curriculum(12, RECIPE)
    curriculum.note(range(6), losses(*[0.1] * 6))

    for step in range(3, 20):
        batch = curriculum.batch(step)
        assert len(set(batch)) == 4
        assert sum(index < 6 for index in batch) == 1


def test_few_unknown_examples_are_joined_by_known_ones() -> None:
    curriculum = Curriculum(12, RECIPE)
    curriculum.note(range(11), losses(*[0.1] * 11))

    assert 11 in curriculum.batch(5)
    assert len(set(curriculum.batch(5))) == 4


def test_an_answer_token_without_half_of_the_probability_is_not_known() -> None:
    curriculum = Curriculum(3, RECIPE)

    curriculum.note([2, 0], losses(0.69, 0.70))

    assert curriculum.known.tolist() == [False, False, True]


def test_a_recipe_of_fixed_steps_takes_epochs_whatever_is_known() -> None:
    curriculum = Curriculum(8, replace(RECIPE, stop_at_recall=False))
    curriculum.note(range(7), losses(*[0.1] * 7))

    counts = Counter(index for step in range(10) for index in curriculum.batch(step))

    assert set(counts.values()) == {5}


def test_recall_is_checked_once_all_are_known_and_not_again_at_once() -> None:
    curriculum = Curriculum(2, RECIPE)
    assert not curriculum.should_check(20)

    curriculum.note([0, 1], losses(0.1, 0.1))
    assert curriculum.should_check(20)

    curriculum.note_check(20, np.array([True, False]))
    assert not curriculum.should_check(40)

    curriculum.note([1], losses(0.1))
    assert not curriculum.should_check(25)
    assert curriculum.should_check(30)


def test_recall_is_checked_once_enough_are_known() -> None:
    curriculum = Curriculum(4, replace(RECIPE, min_recall=0.75))

    curriculum.note([0, 1], losses(0.1, 0.1))
    assert not curriculum.should_check(20)

    curriculum.note([2], losses(0.1))
    assert curriculum.should_check(20)


@given(num_examples=st.integers(1, 9), known=st.lists(st.integers(0, 8)), step=st.integers(0, 30))
def test_a_resumed_curriculum_goes_on_alike(num_examples: int, known: list[int], step: int) -> None:
    curriculum = Curriculum(num_examples, RECIPE)
    curriculum.note_check(3, np.isin(np.arange(num_examples), known))
    resumed = Curriculum(num_examples, RECIPE)

    resumed.resume(curriculum.state())

    assert resumed.batch(step) == curriculum.batch(step)
    assert resumed.should_check(9) == curriculum.should_check(9)
