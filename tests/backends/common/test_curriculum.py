"""Which examples a step takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engram_bench.backends.common.curriculum import LEAST_PACE, Curriculum
from engram_bench.records import Recipe

RECIPE = Recipe(min_recall=1.0, batch_size=4)


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


def after_the_first_epoch(surprises: int) -> Curriculum:
    """40 unknown examples, of which batches took at least 8 again; so many of each batch had become known."""
    curriculum = Curriculum(40, RECIPE)
    curriculum.note(range(40), losses(*[5.0] * 40))
    for step in range(10, 13):
        batch = curriculum.batch(step)
        curriculum.note(batch, losses(*[0.1] * surprises, *[5.0] * (len(batch) - surprises)))
    return curriculum


def test_unknown_examples_are_looked_at_again_once_many_of_them_have_become_known() -> None:
    curriculum = after_the_first_epoch(surprises=3)

    stale = curriculum.stale()

    assert stale == np.flatnonzero(~curriculum.known).tolist()
    assert len(stale) >= 8
    assert curriculum.stale() == []


def test_unknown_examples_that_stay_unknown_are_not_looked_at_again() -> None:
    assert after_the_first_epoch(surprises=1).stale() == []


def test_the_first_epoch_is_no_reason_to_look_again() -> None:
    curriculum = Curriculum(40, RECIPE)
    curriculum.note(range(20), losses(*[0.1] * 20))

    assert curriculum.stale() == []


def test_a_resumed_curriculum_looks_again_when_the_first_would_have() -> None:
    curriculum, resumed = after_the_first_epoch(surprises=3), Curriculum(40, RECIPE)

    resumed.resume(curriculum.state())

    assert resumed.stale() == curriculum.stale() != []


@pytest.mark.parametrize(("known", "pace"), [(0, 1.0), (75, 0.5), (100, LEAST_PACE)])
def test_the_less_is_left_to_learn_the_smaller_are_the_steps(known: int, pace: float) -> None:
    curriculum = Curriculum(100, RECIPE)
    curriculum.note(range(known), losses(*[0.1] * known))

    assert curriculum.pace == pytest.approx(pace)


def test_a_recipe_of_fixed_steps_keeps_its_pace() -> None:
    curriculum = Curriculum(2, replace(RECIPE, stop_at_recall=False))
    curriculum.note([0, 1], losses(0.1, 0.1))

    assert curriculum.pace == 1.0


def test_known_examples_with_the_largest_losses_are_rehearsed() -> None:
    curriculum = Curriculum(41, RECIPE)
    curriculum.note(range(40), np.linspace(0, 0.5, 40, dtype=np.float32))

    rehearsed = {index for step in range(11, 60) for index in curriculum.batch(step)} - {40}

    assert rehearsed == set(range(30, 40))


def test_an_answer_token_without_half_of_the_probability_is_not_known() -> None:
    curriculum = Curriculum(3, RECIPE)

    curriculum.note([2, 0], losses(0.69, 0.70))

    assert curriculum.known.tolist() == [False, False, True]


def test_a_recipe_of_fixed_steps_takes_epochs_whatever_is_known() -> None:
    curriculum = Curriculum(8, replace(RECIPE, stop_at_recall=False))
    curriculum.note(range(7), losses(*[0.1] * 7))

    counts = Counter(index for step in range(10) for index in curriculum.batch(step))

    assert set(counts.values()) == {5}


def test_without_the_curriculum_an_epoch_takes_every_example_whatever_is_known() -> None:
    recipe = Recipe(batch_size=3, stop_at_recall=True)
    plain, curriculum = Curriculum(6, recipe, prefers_unknown=False), Curriculum(6, recipe)
    for each in (plain, curriculum):
        each.known = np.array([True, True, True, True, True, False])

    assert sorted(plain.batch(2) + plain.batch(3)) == list(range(6))
    assert 5 in curriculum.batch(2)
    assert 5 in curriculum.batch(3)


def test_recall_is_checked_once_all_are_known() -> None:
    curriculum = Curriculum(2, RECIPE)
    assert not curriculum.should_check(20)

    curriculum.note([0, 1], losses(0.1, 0.1))

    assert curriculum.should_check(20)


def test_an_example_that_is_recalled_without_a_margin_is_known() -> None:
    curriculum = Curriculum(2, RECIPE)
    curriculum.note([0, 1], losses(0.1, 0.8))

    curriculum.note_recalled([1])

    assert curriculum.should_check(1)


class Asked(list[list[int]]):
    """The portions that were asked for; all but the *missed* are recalled."""

    def __init__(self, *missed: int) -> None:
        self.missed = missed

    def __call__(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        self.append(list(indices))
        return ~np.isin(indices, self.missed)


def test_a_check_asks_for_the_largest_losses_first_in_portions_that_double() -> None:
    curriculum, asked = Curriculum(100, RECIPE), Asked()
    curriculum.note(range(100), np.arange(100, dtype=np.float32))

    assert curriculum.check(20, asked) == 1.0
    assert [index for portion in asked for index in portion] == list(range(99, -1, -1))
    assert [len(portion) for portion in asked] == [32, 64, 4]


@pytest.mark.parametrize(("missed", "portions"), [((3,), 3), ((99,), 1)], ids=["in-the-last-portion", "in-the-first"])
def test_a_check_asks_no_more_once_too_many_are_missed(missed: tuple[int, ...], portions: int) -> None:
    curriculum, asked = Curriculum(100, RECIPE), Asked(*missed)
    curriculum.note(range(100), np.arange(100, dtype=np.float32))

    assert curriculum.check(20, asked) is None
    assert len(asked) == portions


def test_a_check_asks_for_the_required_examples_first() -> None:
    curriculum, asked = Curriculum(100, RECIPE, required=range(40)), Asked()
    curriculum.note(range(100), np.arange(100, dtype=np.float32))

    curriculum.check(20, asked)

    assert [index for portion in asked for index in portion] == [*range(39, -1, -1), *range(99, 39, -1)]


def test_a_check_asks_no_more_once_a_required_example_is_missed() -> None:
    recipe = replace(RECIPE, min_recall=0.9)
    curriculum, asked = Curriculum(100, recipe, required=[0, 99]), Asked(99)
    curriculum.note(range(100), np.arange(100, dtype=np.float32))

    assert curriculum.check(20, asked) is None
    assert len(asked) == 1


def test_recall_is_not_checked_before_every_required_example_is_known() -> None:
    curriculum = Curriculum(10, replace(RECIPE, min_recall=0.5), required=[9])
    curriculum.note(range(9), losses(*[0.1] * 9))
    assert not curriculum.should_check(20)

    curriculum.note([9], losses(0.1))

    assert curriculum.should_check(20)


def test_a_check_tells_the_share_recalled_where_some_may_be_missed() -> None:
    curriculum, asked = Curriculum(100, replace(RECIPE, min_recall=0.99)), Asked(3)
    curriculum.note(range(100), np.zeros(100, dtype=np.float32))

    assert curriculum.check(20, asked) == 0.99


@pytest.mark.parametrize(
    ("num_examples", "pause"),
    [(12, 1), (60, 5), (1000, 10), (3000, 50)],
    ids=["few", "more", "at-most-ten", "at-most-fifty"],
)
def test_a_check_is_followed_by_as_many_steps_as_it_cost(num_examples: int, pause: int) -> None:
    curriculum = Curriculum(num_examples, RECIPE)
    curriculum.note(range(num_examples), losses(*[0.1] * num_examples))

    curriculum.check(20, Asked())

    assert [curriculum.should_check(20 + steps) for steps in (pause - 1, pause)] == [False, True]


def test_recall_is_checked_once_enough_are_known() -> None:
    curriculum = Curriculum(4, replace(RECIPE, min_recall=0.75))

    curriculum.note([0, 1], losses(0.1, 0.1))
    assert not curriculum.should_check(20)

    curriculum.note([2], losses(0.1))
    assert curriculum.should_check(20)


@given(num_examples=st.integers(1, 9), known=st.lists(st.integers(0, 8)), step=st.integers(0, 30))
def test_a_resumed_curriculum_goes_on_alike(num_examples: int, known: list[int], step: int) -> None:
    curriculum = Curriculum(num_examples, RECIPE)
    given_known = sorted({index for index in known if index < num_examples})
    curriculum.note(given_known, losses(*[0.3] * len(given_known)))
    curriculum.check(3, Asked())
    resumed = Curriculum(num_examples, RECIPE)

    resumed.resume(curriculum.state())

    assert resumed.batch(step) == curriculum.batch(step)
    assert resumed.should_check(9) == curriculum.should_check(9)
    asked, asked_again = Asked(), Asked()
    curriculum.check(9, asked)
    resumed.check(9, asked_again)
    assert asked == asked_again
