"""What a memory's values learn from, with torch: passes, gradients, and an Adam for each row that moves when it is read."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.torch.memory import MemoryLayer, TorchMemory, TorchMemoryWrites, padded_earlier
from engram_bench.backends.torch.memory_passes import Passes
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.training import Slots

BETAS, EPSILON = (0.9, 0.999), 1e-8


class TorchMemoryLearner:
    """Moves the values of a memory's layers; of the rows in *trainable* alone (R,) per block, if given."""

    def __init__(
        self, passes: Passes, memory: TorchMemory, *, trainable: Mapping[int, NDArray[np.bool_]] | None = None
    ) -> None:
        self._passes = passes
        self._memory = memory
        self._config: MemoryConfig = memory.table.config
        self._adams = {
            block: RowAdam(layer.rows, (trainable or {}).get(block)) for block, layer in memory.layers.items()
        }
        dense = {} if trainable is not None else memory.layers
        self._dense = {block: DenseAdam.of(layer, self._config) for block, layer in dense.items()}

    def first(self, index: int) -> int:
        """The first position of an example that is computed."""
        return self._passes.first(index)

    def learn(
        self, members: Sequence[int], slots: Slots, labels: NDArray[np.int64], rivals: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The losses (nats) of the members' *labels* (N,) among sorted *rivals*, after which the values have moved."""
        config, layers, positions, compact = self._config, {}, {}, {}
        for block, layer in self._memory.layers.items():
            arranged = self._passes.arrange(members, slots[block])
            positions[block], layers[block], compact[block] = leaf_of(layer, arranged, config)
        with torch.enable_grad():
            writes = self._writes(TorchMemory(self._memory.table, layers), compact, members)
            logits = self._passes.logits(members, writes, torch.from_numpy(rivals))
            targets = torch.from_numpy(np.searchsorted(rivals, labels)).to(logits.device)
            losses = functional.cross_entropy(logits, targets, reduction="none")  # (N,)
            loss = losses.sum()
        if loss.requires_grad and bool(torch.isfinite(loss)):
            torch.autograd.backward(loss)
            for block, layer in layers.items():
                if layer.rows.grad is not None:
                    self._adams[block].step(positions[block], layer.rows.grad, config.row_rate)
                if block in self._dense:
                    self._dense[block].step(layer, config.projection_rate)
        found: NDArray[np.float64] = losses.detach().cpu().double().numpy()
        return found

    def likely(self, members: Sequence[int], slots: Slots, count: int) -> NDArray[np.int64]:
        """The *count* likeliest tokens at each position that predicts a label, (N, count), the best first."""
        arranged = {block: self._passes.arrange(members, parts) for block, parts in slots.items()}
        with torch.no_grad():
            logits = self._passes.logits(members, self._writes(self._memory, arranged, members))
        found: NDArray[np.int64] = logits.topk(min(count, logits.shape[-1])).indices.cpu().numpy()
        return found

    def _writes(
        self, memory: TorchMemory, slots: Mapping[int, NDArray[np.int64]], members: Sequence[int]
    ) -> TorchMemoryWrites:
        """What *memory* adds to an arranged batch, a row per member."""
        positions = next(iter(slots.values())).shape[0]
        return TorchMemoryWrites(memory, slots, padded_earlier(self._config, len(members), positions // len(members)))


class RowAdam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980) in which each row counts its own updates."""

    def __init__(self, rows: Tensor, trainable: NDArray[np.bool_] | None) -> None:
        self._rows = rows  # (R, d)
        self._trainable = torch.ones(len(rows), dtype=torch.bool) if trainable is None else torch.from_numpy(trainable)
        self._trainable = self._trainable.to(rows.device)
        self._trainable[0] = False  # what an unknown n-gram reads stays zero
        self._mean, self._square = torch.zeros_like(rows), torch.zeros_like(rows)
        self._updates = torch.zeros(len(rows), 1, device=rows.device)

    def state(self) -> dict[str, Tensor]:
        """What a step changes, by name."""
        return {"rows": self._rows, "mean": self._mean, "square": self._square, "updates": self._updates}

    def step(self, positions: Tensor, gradient: Tensor, rate: float) -> None:
        """Move the rows at *positions* (n,) against *gradient* (n, d)."""
        kept = self._trainable[positions]
        positions, gradient = positions[kept], gradient[kept]
        self._updates[positions] += 1
        count = self._updates[positions]
        mean = BETAS[0] * self._mean[positions] + (1 - BETAS[0]) * gradient
        square = BETAS[1] * self._square[positions] + (1 - BETAS[1]) * gradient.square()
        self._mean[positions], self._square[positions] = mean, square
        size = (square / (1 - BETAS[1] ** count)).sqrt() + EPSILON
        self._rows[positions] -= rate * mean / (1 - BETAS[0] ** count) / size


class DenseAdam:
    """Adam for a layer's projections and gate, where they are trained."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._values = dict(values)
        self._mean = {name: torch.zeros_like(v) for name, v in values.items()}
        self._square = {name: torch.zeros_like(v) for name, v in values.items()}
        self._updates = torch.zeros(())

    @classmethod
    def of(cls, layer: MemoryLayer, config: MemoryConfig) -> DenseAdam:
        """Of what *config* trains in a layer beside its rows."""
        return cls(_dense_values(layer, config))

    def state(self) -> dict[str, Tensor]:
        """What a step changes, by name."""
        parts = {"value": self._values, "mean": self._mean, "square": self._square}
        found = {f"{part}.{name}": v for part, values in parts.items() for name, v in values.items()}
        return found | ({"updates": self._updates} if found else {})

    def step(self, layer: MemoryLayer, rate: float) -> None:
        """Move the values against the gradients of *layer*, a leaf copy."""
        if not self._values:
            return
        self._updates += 1
        updates = int(self._updates)
        for name, value in self._values.items():
            leaf = layer.projection if name == "projection" else layer.extra[name]
            if leaf.grad is None:
                continue
            self._mean[name].lerp_(leaf.grad, 1 - BETAS[0])
            self._square[name].mul_(BETAS[1]).addcmul_(leaf.grad, leaf.grad, value=1 - BETAS[1])
            size = (self._square[name] / (1 - BETAS[1] ** updates)).sqrt() + EPSILON
            value.addcdiv_(self._mean[name], size, value=-rate / (1 - BETAS[0] ** updates))


def _dense_values(layer: MemoryLayer, config: MemoryConfig) -> dict[str, Tensor]:
    return {**({"projection": layer.projection} if config.train_projection else {}), **layer.extra}


def leaf_of(
    layer: MemoryLayer, slots: NDArray[np.int64], config: MemoryConfig
) -> tuple[Tensor, MemoryLayer, NDArray[np.int64]]:
    """The rows that are read, a copy of the layer with those alone and gradients, and the slots counted in them."""
    used = np.union1d(slots, [0])
    positions = torch.from_numpy(used).to(layer.rows.device)
    leaf = copy.copy(layer)
    leaf.rows = layer.rows[positions].requires_grad_()
    dense = _dense_values(layer, config)
    if "projection" in dense:
        leaf.projection = layer.projection.detach().requires_grad_()
    leaf.extra = {name: values.detach().requires_grad_() for name, values in layer.extra.items()}
    return positions, leaf, np.searchsorted(used, slots)
