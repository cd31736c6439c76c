"""A LoRA trained with a memory beside it: the memory's rows as they are, or learning as well.

The LoRA is to know what it is taught without the memory too: what the memory says it need not learn, and a wording that the
memory does not know would then find neither. So in a share of the examples of a step the memory is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engram_bench.backends.common.packing import TokenBatch
from engram_bench.backends.torch.memory import MemoryLayer, TorchMemory, TorchMemoryWrites, batch_earlier
from engram_bench.backends.torch.memory_training import DenseAdam, RowAdam, leaf_of
from engram_bench.backends.torch.network import Writes
from engram_bench.memory.table import KeyedExample
from engram_bench.memory.training import dropped


class MemoryBeside:
    """A memory that is there while a LoRA is trained on the same *examples*.

    Args:
        memory: Its layers' rows change if *learns*.
        examples: In the order of the LoRA's examples.
        silence: Share of a step's examples in which it says nothing.
        learns: Train the rows with the LoRA's loss, some slots empty as when they are trained alone.
    """

    def __init__(self, memory: TorchMemory, examples: Sequence[KeyedExample], *, silence: float, learns: bool) -> None:
        self._memory = memory
        self._config = memory.table.config
        self._silence = silence
        self._learns = learns
        self._queries = [example.query_from(0) for example in examples]
        ends = np.cumsum([query.num_positions for query in self._queries])[:-1]
        self._slots = {block: np.split(memory.table.rows(self._queries, block), ends) for block in memory.layers}
        self._rows = {block: RowAdam(layer.rows, None) for block, layer in memory.layers.items()} if learns else {}
        self._dense = {block: DenseAdam.of(layer, self._config) for block, layer in memory.layers.items() if learns}
        self._pending: list[tuple[int, Tensor, MemoryLayer]] = []

    def begin(self) -> None:
        """Forget the passes of a step that is begun, or begun again."""
        self._pending.clear()

    def writes(self, batch: TokenBatch, members: Sequence[int], step: int | None) -> Writes | None:
        """What it adds to a pass over these examples, in a step or (None) whenever it is asked."""
        batch = replace(batch, paths=batch.paths[: len(members)])  # ordinary prompts come last and have no rows
        layers, slots = dict(self._memory.layers), {}
        for block, layer in self._memory.layers.items():
            flat = np.zeros((batch.ids.size, self._config.slots), dtype=np.int64)  # (M, S)
            for path, index in zip(batch.paths, members, strict=True):
                flat[path] = self._said(index, self._slots[block][index], step)
            if self._learns and step is not None:
                positions, layers[block], flat = leaf_of(layer, flat, self._config)
                self._pending.append((block, positions, layers[block]))
            slots[block] = flat
        earlier = batch_earlier(self._config, batch, [self._queries[index] for index in members])
        return TorchMemoryWrites(replace(self._memory, layers=layers), slots, earlier)

    def learn(self) -> None:
        """Take over the gradients of the step's passes."""
        for block, positions, leaf in self._pending:
            if leaf.rows.grad is not None:
                self._rows[block].step(positions, leaf.rows.grad, self._config.row_rate)
            self._dense[block].step(leaf, self._config.projection_rate)
        self.begin()

    def state(self) -> dict[str, Tensor]:
        """Everything of it that training changes, by name."""
        found = {f"rows.{block}.{name}": v for block, adam in self._rows.items() for name, v in adam.state().items()}
        return found | {f"dense.{block}.{name}": v for block, d in self._dense.items() for name, v in d.state().items()}

    def _said(self, index: int, rows: NDArray[np.int64], step: int | None) -> NDArray[np.int64]:
        """Rows (positions, S) of an example, as it is in this step."""
        if step is None:
            return rows
        random = np.random.default_rng([self._config.seed, step, index])
        if random.random() < self._silence:
            return np.zeros_like(rows)
        return dropped(rows, self._config.key_dropout, random) if self._learns else rows
