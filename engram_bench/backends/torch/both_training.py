"""A LoRA trained with a memory beside it: the memory's rows stay as they are, or learn as well.

The LoRA must know its examples without the memory too. What the memory says, the LoRA need not learn, and neither would know a
wording that the memory does not recognise. So in a share of the examples of a step the memory is silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engram_bench.backends.common.packing import TokenBatch
from engram_bench.backends.torch.memory import MemoryLayer, TorchMemoryWrites, batch_earlier, load_memory
from engram_bench.backends.torch.memory_training import TorchMemoryEngine, gradients_of, leaf_values
from engram_bench.backends.torch.network import Network, Writes
from engram_bench.memory.files import StoredMemory
from engram_bench.memory.slots import flattened, query_rows
from engram_bench.memory.table import KeyedExample
from engram_bench.memory.training import dropped
from engram_bench.memory.values import MemoryValues, ReadValues

Slots = Mapping[int, NDArray[np.int64]]


class BesideLayers(Protocol):
    """The layers of a memory beside a LoRA."""

    def begin(self) -> None:
        """Forget the passes of a step that is begun, or begun again."""

    def read(self, slots: Slots, *, is_step: bool) -> tuple[Mapping[int, MemoryLayer], Slots]:
        """Layers for a pass, in a step or outside, and the slots counted in their rows."""

    def learn(self) -> None:
        """Move the layers' values by the gradients of the step's passes."""

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes, by name."""


class FrozenLayers:
    """Layers whose values stay as they are."""

    def __init__(self, stored: StoredMemory, device: str) -> None:
        self._layers = load_memory(stored, device).layers

    def begin(self) -> None:
        """Nothing is kept of a pass."""

    def read(self, slots: Slots, *, is_step: bool) -> tuple[Mapping[int, MemoryLayer], Slots]:
        """The same layers for every pass."""
        return self._layers, slots

    def learn(self) -> None:
        """Nothing moves."""

    def state(self) -> dict[str, Tensor]:
        """Training changes nothing."""
        return {}


class LearningLayers:
    """Layers whose values move by the loss of the passes that read them."""

    def __init__(self, stored: StoredMemory, network: Network) -> None:
        self._config = stored.table.config
        self._scales = {block: layer.scale for block, layer in stored.layers.items()}
        self._values = MemoryValues(stored, TorchMemoryEngine(network))
        self._pending: list[tuple[ReadValues, Mapping[int, dict[str, Tensor]]]] = []

    def begin(self) -> None:
        """Forget the passes of a step that is begun, or begun again."""
        self._pending.clear()

    def read(self, slots: Slots, *, is_step: bool) -> tuple[Mapping[int, MemoryLayer], Slots]:
        """Layers with the rows that a pass reads; those of a step gather gradients."""
        read = self._values.read(slots)
        layers = read.layers
        if is_step:
            leaves = {block: leaf_values(values, self._config) for block, values in layers.items()}
            self._pending.append((read, leaves))
            layers = leaves
        gate = self._config.gate
        return {block: MemoryLayer(layers[block], self._scales[block], gate) for block in layers}, read.slots

    def learn(self) -> None:
        """Move the values by the gradients of the step's passes, one pass after another."""
        for read, leaves in self._pending:
            self._values.move(read, {block: gradients_of(leaf) for block, leaf in leaves.items()})
        self.begin()

    def state(self) -> dict[str, Tensor]:
        """The values and what their optimizers remember."""
        return self._values.state()

    def stored(self) -> StoredMemory:
        """The memory with the values as they are now."""
        return self._values.stored()


class MemoryBeside:
    """A memory that is there while a LoRA is trained on the same *examples*.

    Args:
        stored: Memory whose table addresses the rows.
        layers: Values of the memory, which may learn.
        examples: Examples in the order of the LoRA's.
        silence: Share of a step's examples in which the memory adds nothing.
        drops: Whether some slots are left empty in a step, as when the rows are trained alone.
    """

    def __init__(
        self,
        stored: StoredMemory,
        layers: BesideLayers,
        examples: Sequence[KeyedExample],
        *,
        silence: float = 0.0,
        drops: bool = False,
    ) -> None:
        self._layers = layers
        self._config = stored.table.config
        self._silence = silence
        self._drops = drops
        self._queries = [example.query_from(0) for example in examples]
        self._rows = query_rows(stored.table, self._queries)

    def begin(self) -> None:
        """Forget the passes of a step that is begun, or begun again."""
        self._layers.begin()

    def writes(self, batch: TokenBatch, members: Sequence[int], step: int | None) -> Writes | None:
        """The memory's part in a pass over these examples, in a step or (None) outside of one."""
        batch = replace(batch, paths=batch.paths[: len(members)])  # ordinary prompts come last and have no rows
        slots = {
            block: flattened(batch.ids.size, batch.paths, [self._read(index, rows[index], step) for index in members])
            for block, rows in self._rows.items()
        }
        layers, counted = self._layers.read(slots, is_step=step is not None)
        earlier = batch_earlier(self._config, batch, [self._queries[index] for index in members])
        return TorchMemoryWrites(layers, counted, earlier)

    def learn(self) -> None:
        """Take over the gradients of the step's passes."""
        self._layers.learn()

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes, by name."""
        return self._layers.state()

    def _read(self, index: int, rows: NDArray[np.int64], step: int | None) -> NDArray[np.int64]:
        """Rows (positions, S) of an example, as they are read in this step."""
        if step is None:
            return rows
        random = np.random.default_rng([self._config.seed, step, index])
        if random.random() < self._silence:
            return np.zeros_like(rows)
        return dropped(rows, self._config.key_dropout, random) if self._drops else rows
