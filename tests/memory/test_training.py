"""When a memory's training checks recall, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.query import Query
from engram_bench.memory.table import KeyedExample, RowTable, build_table
from engram_bench.memory.training import CHECKED_EVERY, Done, MemoryTrainer, Slots
from engram_bench.system.progress import no_progress

END, WRONG = 1, 2
COUNT = 30
EXAMPLES = [
    KeyedExample(f"fact-{index}", Query([10 + index, 50 + index, 3], [True, True, False]), (100 + index, END))
    for index in range(COUNT)
]


class ScriptedLearner:
    """Knows an example by heart after so many passes, with confidence at once."""

    def __init__(self, passes: Sequence[int]) -> None:
        self.passes = passes
        self.seen = [0] * len(passes)
        self.checked: list[list[int]] = []

    def first(self, index: int) -> int:
        return len(EXAMPLES[index].prompt.ids) - 1

    def learn(
        self, members: Sequence[int], slots: Slots, labels: NDArray[np.int64], rivals: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        for index in members:
            self.seen[index] += 1
        return np.full(len(labels), 0.01)

    def likely(self, members: Sequence[int], slots: Slots, count: int) -> NDArray[np.int64]:
        self.checked.append(sorted(members))
        found = [
            [label if self.seen[index] >= self.passes[index] else WRONG, WRONG]
            for index in members
            for label in EXAMPLES[index].labels
        ]
        return np.array(found)


class ForgetfulLearner(ScriptedLearner):
    """Forgets the first example when the last one is trained alone for the first time."""

    def learn(
        self, members: Sequence[int], slots: Slots, labels: NDArray[np.int64], rivals: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        if list(members) == [COUNT - 1] and self.seen[COUNT - 1] == 1:
            self.seen[0] = 0
        return super().learn(members, slots, labels, rivals)


def trained(learner: ScriptedLearner, *, steps: int = 50) -> Done:
    table = build_table(RowTable(MemoryConfig(orders=(2,), layers=(0,), near=0.0, key_dropout=0.0)), EXAMPLES)
    return MemoryTrainer(learner, table, EXAMPLES).run(steps, progress=no_progress)


EVERYTHING, LATE = list(range(COUNT)), [COUNT - 1]
ALL_BUT_ONE = pytest.approx((COUNT - 1) / COUNT)


def test_the_end_is_full_recall_twice_with_a_step_in_between() -> None:
    learner = ScriptedLearner([1] * COUNT)

    done = trained(learner)

    assert done.recalls == [0.0, 1.0, 1.0]
    assert len(done.losses) == 2
    assert learner.checked == [EVERYTHING] * 3


def test_while_some_are_missed_they_alone_are_checked() -> None:
    learner = ScriptedLearner([1] * (COUNT - 1) + [5])

    done = trained(learner)

    assert learner.checked == [EVERYTHING] * 2 + [LATE] * 4 + [EVERYTHING] * 2
    assert done.recalls == [0.0, ALL_BUT_ONE, 1.0, 1.0]


def test_what_is_forgotten_meanwhile_is_trained_again() -> None:
    learner = ForgetfulLearner([1] * (COUNT - 1) + [3])

    done = trained(learner)

    assert learner.seen[0] > 0
    assert done.recalls == [0.0, ALL_BUT_ONE, ALL_BUT_ONE, 1.0, 1.0]


def test_what_is_never_known_is_told_at_the_end() -> None:
    learner = ScriptedLearner([1] * (COUNT - 1) + [10**9])

    done = trained(learner, steps=CHECKED_EVERY)

    assert len(done.losses) == CHECKED_EVERY
    assert done.recalls[-1] == ALL_BUT_ONE
    assert learner.checked[-1] == EVERYTHING
