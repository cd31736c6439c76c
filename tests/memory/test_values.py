"""A memory's values while they are trained: which move, by how much, and what a pass is given of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engram_bench.memory.adam import RowAdam
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.files import Layer, StoredMemory
from engram_bench.memory.slots import arranged, flattened
from engram_bench.memory.table import RowTable
from engram_bench.memory.values import MemoryValues
from tests.memory.test_training import NumpyArrays

CONFIG = MemoryConfig(orders=(2,), layers=(0,), near=0.0, row_rate=0.5, projection_rate=0.25)
SLOTS = {0: np.array([[2, 0], [4, 2], [0, 0]])}


def stored(**changes: Any) -> StoredMemory:
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    rows[0] = 0
    layer = Layer(rows, np.ones((4, 3), np.float32), 1.0, {"key_norm": np.ones(3, np.float32)})
    return StoredMemory(RowTable(replace(CONFIG, **changes)), {0: layer}, "", "")


def moved(memory: StoredMemory, after: StoredMemory) -> dict[str, list[int]]:
    """Per value which of its rows differ."""
    pairs = zip(memory.layers[0].values.items(), after.layers[0].values.values(), strict=True)
    return {
        name: np.flatnonzero((before != now).reshape(len(before), -1).any(-1)).tolist() for (name, before), now in pairs
    }


def test_a_pass_is_given_the_rows_that_it_reads_and_slots_counted_in_them() -> None:
    read = MemoryValues(stored(), NumpyArrays()).read(SLOTS)

    assert read.rows[0].tolist() == [0, 2, 4]
    assert read.layers[0]["rows"].tolist() == [[0, 0], [4, 5], [8, 9]]
    assert read.slots[0].tolist() == [[1, 0], [2, 1], [0, 0]]


@pytest.mark.parametrize(
    ("train_projection", "trainable", "expected"),
    [
        (True, None, {"rows": [2, 4], "projection": [0, 1, 2, 3], "key_norm": [0, 1, 2]}),
        (False, None, {"rows": [2, 4], "projection": [], "key_norm": [0, 1, 2]}),
        (True, [True, False, False, False, True], {"rows": [4], "projection": [], "key_norm": []}),
    ],
    ids=["all", "projection-frozen", "new-rows-alone"],
)
def test_what_is_trained_moves_and_row_0_never(
    train_projection: bool, trainable: list[bool] | None, expected: dict[str, list[int]]
) -> None:
    memory = stored(train_projection=train_projection)
    mask = np.array(trainable) if trainable is not None else None
    values = MemoryValues(memory, NumpyArrays(), trainable=mask)
    read = values.read(SLOTS)

    values.move(read, {0: {name: np.ones_like(array) for name, array in read.layers[0].items()}})

    assert moved(memory, values.stored()) == expected


def test_the_first_step_is_as_long_as_the_learning_rate() -> None:
    """Adam's first step is the rate against the gradient's sign, whatever the gradient's size."""
    values = MemoryValues(stored(), NumpyArrays())
    read = values.read(SLOTS)

    values.move(read, {0: {"rows": np.array([[1, 1], [100, -100], [0.01, 0]], np.float32)}})

    found = values.stored().layers[0].rows
    np.testing.assert_allclose(found[[2, 4]], [[4 - 0.5, 5 + 0.5], [8 - 0.5, 9]], rtol=1e-5)


def test_a_row_counts_its_own_updates() -> None:
    """A row that is read for the first time late takes the full first step of Adam."""
    values = np.zeros((3, 1), np.float32)
    adam = RowAdam(values)
    for _ in range(20):
        adam.step(np.ones((1, 1), np.float32), 0.1, np.array([1]))

    adam.step(np.ones((1, 1), np.float32), 0.1, np.array([2]))

    np.testing.assert_allclose(values[:, 0], [0, -2.0, -0.1], rtol=1e-4)


def test_adam_is_the_papers_algorithm() -> None:
    random = np.random.default_rng(0)
    start, gradients = random.standard_normal((4, 3)), random.standard_normal((40, 4, 3))
    expected, mean, square = start.copy(), np.zeros((4, 3)), np.zeros((4, 3))
    for step, gradient in enumerate(gradients, start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        expected -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    values = start.astype(np.float32)
    adam = RowAdam(values)

    for gradient in gradients.astype(np.float32):
        adam.step(gradient, 0.01)

    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_tensors_move_as_arrays_do() -> None:
    """One optimizer for both libraries: they differ in the last bits of roots and powers alone."""
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    array = random.standard_normal((50, 8)).astype(np.float32)
    tensor = torch.tensor(array)
    of_array, of_tensor = RowAdam(array), RowAdam(tensor)

    for _ in range(60):
        rows = np.unique(random.integers(0, 50, 20))
        gradient = random.standard_normal((len(rows), 8)).astype(np.float32)
        of_array.step(gradient, 0.02, rows)
        of_tensor.step(torch.tensor(gradient), 0.02, rows)

    np.testing.assert_allclose(array, tensor.numpy(), rtol=1e-5, atol=1e-6)


def test_what_was_trained_can_be_put_back() -> None:
    one, other = MemoryValues(stored(), NumpyArrays()), MemoryValues(stored(), NumpyArrays())
    read = one.read(SLOTS)
    gradients = {0: {name: np.ones_like(array) for name, array in read.layers[0].items()}}
    one.move(read, gradients)
    for name, array in other.state().items():
        array[...] = one.state()[name]

    one.move(read, gradients)
    other.move(read, gradients)

    assert moved(one.stored(), other.stored()) == {"rows": [], "projection": [], "key_norm": []}


def test_slots_are_arranged_with_as_many_positions_for_each_example() -> None:
    parts = [np.array([[1, 2]]), np.array([[3, 4], [5, 6]])]

    assert arranged(parts).tolist() == [[1, 2], [0, 0], [3, 4], [5, 6]]
    assert flattened(4, [np.array([3]), np.array([0, 1])], parts).tolist() == [[3, 4], [5, 6], [0, 0], [1, 2]]
