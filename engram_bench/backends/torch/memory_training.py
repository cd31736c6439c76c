"""The part of torch in the training of a memory: hidden states, gradients of its values, and likely tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.common.packing import pack
from engram_bench.backends.torch.memory import MemoryLayer, TorchMemoryWrites, padded_earlier
from engram_bench.backends.torch.memory_passes import Example, Passes, open_passes
from engram_bench.backends.torch.network import Network
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.table import KeyedExample
from engram_bench.memory.values import ReadValues, Values, is_trained
from engram_bench.system.progress import Progress


@dataclass(frozen=True)
class TorchMemoryEngine:
    """Computes with torch what the training of a memory needs of a frozen network."""

    network: Network
    cached: bool = True
    """Compute once what the memory cannot change; False is the plain way with the same result."""

    @property
    def context_length(self) -> int:
        """Most tokens of an example."""
        return self.network.context_length

    def array(self, values: NDArray[np.float32]) -> Tensor:
        """A copy of *values* on the network's device."""
        return torch.tensor(values, device=self.network.device)

    def numpy(self, array: Tensor) -> NDArray[np.float32]:
        """The content of a tensor."""
        found: NDArray[np.float32] = array.detach().cpu().numpy()
        return found

    def scales(self, examples: Sequence[KeyedExample], blocks: Sequence[int]) -> dict[int, float]:
        """Median size of the hidden state's values where the examples' answers are predicted, before each block."""
        seen: dict[int, list[Tensor]] = {block: [] for block in blocks}
        for example in examples:
            query = example.query

            def watch(block: int, hidden: Tensor, first: int = query.first) -> Tensor:
                if block in seen:
                    seen[block].append(hidden[first:].abs().flatten().float())
                return hidden

            batch = pack([query.ids])
            self.network.logits(batch, batch.paths[0][-1:], lora=None, writes=watch)
        return {block: float(torch.cat(parts).median()) for block, parts in seen.items()}

    def passes(
        self,
        examples: Sequence[KeyedExample],
        config: MemoryConfig,
        scales: Mapping[int, float],
        *,
        pad_id: int,
        progress: Progress,
    ) -> TorchMemoryPasses:
        """Passes over the examples for a memory of this shape."""
        given = []
        for example in examples:
            predicts = len(example.prompt.ids) - 1
            given.append(Example(example.query.ids, predicts if config.answers_only else 0, predicts))
        block = min(config.layers)
        passes = open_passes(self.network, given, block=block, pad_id=pad_id, cached=self.cached, progress=progress)
        return TorchMemoryPasses(passes, config, scales)


class TorchMemoryPasses:
    """Passes through a frozen network to which a memory adds what it has."""

    def __init__(self, passes: Passes, config: MemoryConfig, scales: Mapping[int, float]) -> None:
        self._passes = passes
        self._config = config
        self._scales = scales

    def first(self, index: int) -> int:
        """The first position of an example that is computed."""
        return self._passes.first(index)

    def gradients(
        self, members: Sequence[int], read: ReadValues, targets: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], dict[int, Values]]:
        """The losses (nats) of the members' labels among *tokens*, (N,), and the gradients of their sum."""
        leaves = {block: leaf_values(values, self._config) for block, values in read.layers.items()}
        with torch.enable_grad():
            logits = self._passes.logits(members, self._writes(leaves, read, members), torch.from_numpy(tokens))
            wanted = torch.from_numpy(targets).to(logits.device)
            losses = functional.cross_entropy(logits, wanted, reduction="none")  # (N,)
            loss = losses.sum()
        if loss.requires_grad:
            torch.autograd.backward(loss)
        found: NDArray[np.float64] = losses.detach().cpu().double().numpy()
        return found, {block: gradients_of(leaf) for block, leaf in leaves.items()}

    def likely(self, members: Sequence[int], read: ReadValues, count: int) -> NDArray[np.int64]:
        """The *count* likeliest tokens at each position that predicts a label, (N, count), the best first."""
        with torch.no_grad():
            logits = self._passes.logits(members, self._writes(read.layers, read, members))
        found: NDArray[np.int64] = logits.topk(min(count, logits.shape[-1])).indices.cpu().numpy()
        return found

    def _writes(self, layers: Mapping[int, Values], read: ReadValues, members: Sequence[int]) -> TorchMemoryWrites:
        """The memory's part in an arranged batch, a row per member."""
        gate = self._config.gate
        writing = {block: MemoryLayer(values, self._scales[block], gate) for block, values in layers.items()}
        num_positions = len(next(iter(read.slots.values())))
        earlier = padded_earlier(self._config, len(members), num_positions // len(members))
        return TorchMemoryWrites(writing, read.slots, earlier)


def leaf_values(values: Values, config: MemoryConfig) -> dict[str, Tensor]:
    """The values by name, as leaves of a graph where they are trained."""
    leaves: dict[str, Tensor] = {name: array.detach() for name, array in values.items()}
    for name, leaf in leaves.items():
        if is_trained(name, train_projection=config.train_projection):
            leaf.requires_grad_()
    return leaves


def gradients_of(leaves: Mapping[str, Tensor]) -> Values:
    """The gradients of the leaves that took part in a loss, by name."""
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
