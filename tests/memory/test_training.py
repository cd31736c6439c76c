"""When a memory's training checks recall, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.files import StoredMemory
from engram_bench.memory.plan import new_layer
from engram_bench.memory.query import Query
from engram_bench.memory.table import KeyedExample, RowTable, build_table
from engram_bench.memory.training import CHECKED_EVERY, MemoryTrainer
from engram_bench.memory.values import MemoryValues, ReadValues, Values
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.progress import no_progress

END, WRONG = 1, 2
COUNT = 30
EXAMPLES = [
    KeyedExample(f"fact-{index}", Query([10 + index, 50 + index, 3], [True, True, False]), (100 + index, END))
    for index in range(COUNT)
]


class ScriptedPasses:
    """Knows an example by heart after so many passes, with confidence at once."""

    def __init__(self, passes: Sequence[int]) -> None:
        self.passes = passes
        self.seen = [0] * len(passes)
        self.checked: list[list[int]] = []

    def first(self, index: int) -> int:
        return len(EXAMPLES[index].prompt.ids) - 1

    def gradients(
        self, members: Sequence[int], read: ReadValues, targets: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Mapping[int, Values]]:
        for index in members:
            self.seen[index] += 1
        return np.full(len(targets), 0.01), {}

    def likely(self, members: Sequence[int], read: ReadValues, count: int) -> NDArray[np.int64]:
        self.checked.append(sorted(members))
        found = [
            [label if self.seen[index] >= self.passes[index] else WRONG, WRONG]
            for index in members
            for label in EXAMPLES[index].labels
        ]
        return np.array(found)


class NumpyArrays:
    def array(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values.copy()

    def numpy(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        return array


class ForgetfulPasses(ScriptedPasses):
    """Forgets the first example when the last one is trained alone for the first time."""

    def gradients(
        self, members: Sequence[int], read: ReadValues, targets: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Mapping[int, Values]]:
        if list(members) == [COUNT - 1] and self.seen[COUNT - 1] == 1:
            self.seen[0] = 0
        return super().gradients(members, read, targets, tokens)


def trained(passes: ScriptedPasses, *, steps: int = 50) -> TrainingLog:
    table = build_table(RowTable(MemoryConfig(orders=(2,), layers=(0,), near=0.0, key_dropout=0.0)), EXAMPLES)
    layer = new_layer(table.config, table.num_rows(0), hidden=4, scale=1.0, block=0)
    values = MemoryValues(StoredMemory(table, {0: layer}, "", ""), NumpyArrays())
    return MemoryTrainer(passes, values, table, EXAMPLES).run(steps, progress=no_progress)


EVERYTHING, LATE = list(range(COUNT)), [COUNT - 1]
ALL_BUT_ONE = pytest.approx((COUNT - 1) / COUNT)


def test_the_end_is_full_recall_twice_with_a_step_in_between() -> None:
    passes = ScriptedPasses([1] * COUNT)

    log = trained(passes)

    assert log.recall == 1.0
    assert len(log.losses) == 2
    assert passes.checked == [EVERYTHING] * 3


def test_while_some_are_missed_they_alone_are_checked() -> None:
    passes = ScriptedPasses([1] * (COUNT - 1) + [5])

    log = trained(passes)

    assert passes.checked == [EVERYTHING] * 2 + [LATE] * 4 + [EVERYTHING] * 2
    assert log.recall == 1.0


def test_what_is_forgotten_meanwhile_is_trained_again() -> None:
    passes = ForgetfulPasses([1] * (COUNT - 1) + [3])

    log = trained(passes)

    assert passes.seen[0] > 0
    assert [checked for checked in passes.checked if checked == EVERYTHING] == [EVERYTHING] * 5
    assert log.recall == 1.0


def test_what_is_never_known_is_counted_at_the_end() -> None:
    passes = ScriptedPasses([1] * (COUNT - 1) + [10**9])

    log = trained(passes, steps=CHECKED_EVERY)

    assert len(log.losses) == CHECKED_EVERY
    assert log.recall == ALL_BUT_ONE
    assert passes.checked[-1] == EVERYTHING
