"""The arithmetic of a memory in mlx: rows of trained values, projected and added to the hidden state before some blocks.

The equations are those of :mod:`engram_bench.backends.torch.memory`, and a test holds the two to the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import BackendError
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.files import Layer, StoredMemory
from engram_bench.memory.query import Query
from engram_bench.memory.slots import Slots, batch_slots
from engram_bench.memory.table import RowTable

GATE_EPSILON = 1e-5

Values = Mapping[str, mx.array]
"""``rows`` (R, d), ``projection`` (S·d, H) and what a gate has."""


@dataclass(frozen=True)
class MlxMemory:
    """A table and the values of its rows, ready for use."""

    table: RowTable
    layers: Mapping[int, Values]
    """Values by block."""
    scales: Mapping[int, float]


@dataclass(frozen=True)
class MlxMemoryWrites:
    """Everything that a memory adds during one forward pass."""

    layers: Mapping[int, Values]
    """Values by block."""
    scales: Mapping[int, float]
    """Scales by block."""
    gate: str
    slots: Slots

    def __call__(self, block: int, hidden: mx.array) -> mx.array:
        """The hidden states (B, T, H) that go into *block*."""
        if block not in self.slots:
            return hidden
        slots = self.slots[block]
        positions = np.flatnonzero(slots.any(-1))
        if not len(positions):
            return hidden
        flat = hidden.reshape(-1, hidden.shape[-1])  # (M, H)
        values = self.layers[block]
        found = values["rows"][mx.array(slots[positions])].reshape(len(positions), -1)  # (N, S·d)
        update = _update(values, self.gate, self.scales[block], found, flat[mx.array(positions)].astype(mx.float32))
        # A gather from the updates, of which the first is nothing: mlx would scatter number by number.
        source = np.zeros(len(slots), dtype=np.int64)
        source[positions] = np.arange(1, len(positions) + 1)
        padded = mx.concatenate([mx.zeros_like(update[:1]), update]).astype(hidden.dtype)
        return hidden + padded[mx.array(source)].reshape(hidden.shape)


def load_memory(stored: StoredMemory) -> MlxMemory:
    """The stored memory.

    Raises:
        BackendError: It has a part that is not computed here.
    """
    check_supported(stored.table.config)
    layers = {block: _values(layer) for block, layer in stored.layers.items()}
    return MlxMemory(stored.table, layers, {block: layer.scale for block, layer in stored.layers.items()})


def check_supported(config: MemoryConfig) -> None:
    """Return if a memory of this shape can be computed here.

    Raises:
        BackendError: It cannot.
    """
    if config.kernel:
        msg = f"memory: kernel is {config.kernel}, expected 0 (the mlx backend has no short convolution; cpu has)"
        raise BackendError(msg)


def batch_writes(
    memory: MlxMemory, num_positions: int, paths: Sequence[NDArray[np.int64]], queries: Sequence[Query]
) -> MlxMemoryWrites:
    """The memory's part in a flattened batch of *num_positions* whose *paths* lead through the queries' positions."""
    slots = batch_slots(memory.table, num_positions, paths, queries)
    return MlxMemoryWrites(memory.layers, memory.scales, memory.table.config.gate, slots)


def _values(layer: Layer) -> dict[str, mx.array]:
    return {name: mx.array(values) for name, values in layer.values.items()}


def _update(values: Values, gate: str, scale: float, embedded: mx.array, hidden: mx.array) -> mx.array:
    """The update (N, H) of *hidden* (N, H) for the rows (N, S·d) found there."""
    value = scale * (embedded @ values["projection"])
    if gate == "none":
        return value
    query = _normed(hidden, values["query_norm"])
    key = _normed(embedded @ values["key_projection"], values["key_norm"])
    score = (query * key).sum(-1, keepdims=True) / hidden.shape[-1] ** 0.5
    if gate == "paper":
        score = mx.sign(score) * mx.sqrt(mx.maximum(mx.abs(score), 1e-6))
    gated: mx.array = mx.sigmoid(score) * value
    return gated


def _normed(x: mx.array, weight: mx.array) -> mx.array:
    normed: mx.array = x * mx.rsqrt(mx.square(x).mean(-1, keepdims=True) + GATE_EPSILON) * weight
    return normed
