"""The arithmetic of a memory in torch: rows of trained values, projected and added to the hidden state before some blocks.

    v = scale · gate · (rows W)      before block *l*, where a row was found; nothing is computed elsewhere
    y = v + SiLU(convolution(normed v))      with a short convolution: causal, depthwise, zero at first

Rows start at zero, there is no bias and row 0 stays zero, so an n-gram that was never trained changes nothing, to the
bit. Source of the equations: *Engram*, arXiv 2601.07372, section 2.3, with one residual branch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.common.packing import TokenBatch
from engram_bench.backends.torch.kv_cache import DecodingKVCache, PrefillKVCache
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.files import Layer, StoredMemory
from engram_bench.memory.query import Query
from engram_bench.memory.slots import Slots, batch_slots
from engram_bench.memory.table import RowTable

GATE_EPSILON = 1e-5


class MemoryLayer:
    """The values that a memory writes with before one block. H values in a hidden state, S slots, d values in a row."""

    def __init__(self, values: Mapping[str, Tensor], scale: float, gate: str) -> None:
        self.rows = values["rows"]  # (R, d)
        self.projection = values["projection"]  # (S·d, H)
        self.scale = scale
        self.gate = gate
        self.extra = values

    def update(self, embedded: Tensor, hidden: Tensor) -> Tensor:
        """The update (N, H) of *hidden* (N, H) for the rows (N, S·d) found there."""
        value = self.scale * (embedded @ self.projection)
        if self.gate == "none":
            return value
        query = _normed(hidden, self.extra["query_norm"])
        key = _normed(embedded @ self.extra["key_projection"], self.extra["key_norm"])
        score = (query * key).sum(-1, keepdim=True) / hidden.shape[-1] ** 0.5
        if self.gate == "paper":  # the root is in the reference code, not in the paper's formula
            score = score.sign() * score.abs().clamp_min(1e-6).sqrt()
        return torch.sigmoid(score) * value

    def write(self, onto: Tensor, slots: NDArray[np.int64], hidden: Tensor | None = None) -> Tensor:
        """*onto* (M, H) with the rows in *slots* (M, S) added where there is one, gated by *hidden* (if not *onto*)."""
        hidden = onto if hidden is None else hidden
        positions = np.flatnonzero(slots.any(-1))
        if not len(positions):
            return onto
        index = torch.from_numpy(positions).to(hidden.device)
        found = self.rows[torch.from_numpy(slots[positions]).to(hidden.device)].flatten(1)  # (N, S·d)
        return onto.index_add(0, index, self.update(found, hidden[index].float()).to(hidden.dtype))

    def gated(self, hidden: Tensor, slots: NDArray[np.int64]) -> Tensor:
        """The update (M, H) of the rows in *slots* (M, S) at each position; zero where there is none."""
        return self.write(torch.zeros_like(hidden), slots, hidden)

    def convolved(self, value: Tensor, earlier: Tensor) -> Tensor:
        """The sum (M, H) of *value* (M, H) and its convolution with the values at earlier positions (M, K - 1, H)."""
        seen = torch.cat([value[:, None], earlier], 1).float()  # (M, K, H), the position itself first
        mixed = (_normed(seen, self.extra["conv_norm"]) * self.extra["conv_weight"]).sum(1)
        return value + functional.silu(mixed).to(value.dtype)


@dataclass(frozen=True)
class TorchMemory:
    """A table and the values of its rows, ready for use."""

    table: RowTable
    layers: Mapping[int, MemoryLayer]
    """Layers by block."""


def load_memory(stored: StoredMemory, device: str) -> TorchMemory:
    """The stored memory on a torch device."""
    gate = stored.table.config.gate

    def loaded(layer: Layer) -> MemoryLayer:
        values = {name: torch.tensor(values, device=device) for name, values in layer.values.items()}
        return MemoryLayer(values, layer.scale, gate)

    return TorchMemory(stored.table, {block: loaded(layer) for block, layer in stored.layers.items()})


@dataclass(frozen=True)
class Earlier:
    """Where the positions of a flattened (B · T) batch find what was written before them, per row of P + T columns."""

    shape: tuple[int, int]
    """(B, T)."""
    columns: NDArray[np.int64]
    """(M, K - 1): nearest first; -1 before the sequence."""
    cache: PrefillKVCache | DecodingKVCache | None = None
    """Keeps what was written for later passes, and has what earlier ones wrote."""

    def of(self, value: Tensor, index: int) -> Tensor:
        """The values (M, K - 1, H) before each position, *value* (M, H) being what the pass writes in the *index*-th layer."""
        written = value.view(self.shape[0], 1, self.shape[1], -1)
        if self.cache is not None:
            written = self.cache.write(written, index)
        rows = np.repeat(np.arange(self.shape[0]), self.shape[1])[:, None] * written.shape[2]
        flat = torch.cat([written.flatten(0, 2), torch.zeros_like(value[:1])])  # (B · (P + T) + 1, H): zero before all
        found = np.where(self.columns < 0, len(flat) - 1, rows + self.columns)
        return flat[torch.from_numpy(found).to(flat.device)]


@dataclass(frozen=True)
class TorchMemoryWrites:
    """Everything that a memory adds during one forward pass."""

    layers: Mapping[int, MemoryLayer]
    """Layers by block."""
    slots: Slots
    earlier: Earlier | None = None
    """Needed by a convolution."""

    def __call__(self, block: int, hidden: Tensor) -> Tensor:
        """The hidden states (M, H) that go into *block*."""
        if block not in self.slots:
            return hidden
        layer = self.layers[block]
        if self.earlier is None:
            return layer.write(hidden, self.slots[block])
        value = layer.gated(hidden, self.slots[block])
        return hidden + layer.convolved(value, self.earlier.of(value, sorted(self.slots).index(block)))


def batch_writes(
    memory: TorchMemory,
    batch: TokenBatch,
    queries: Sequence[Query],
    cache: PrefillKVCache | DecodingKVCache | None = None,
) -> TorchMemoryWrites:
    """The memory's part in a batch whose paths lead through the queries' positions; *cache* is that of the pass."""
    slots = batch_slots(memory.table, batch.ids.size, batch.paths, queries)
    return TorchMemoryWrites(memory.layers, slots, batch_earlier(memory.table.config, batch, queries, cache))


def padded_earlier(config: MemoryConfig, num_rows: int, length: int) -> Earlier | None:
    """The earlier positions in a batch of whole sequences, one per row; None without a convolution."""
    if not config.kernel:
        return None
    columns = np.arange(length)[:, None] - _reach(config)  # (T, K - 1)
    return Earlier((num_rows, length), np.tile(np.maximum(columns, -1), (num_rows, 1)))


def batch_earlier(
    config: MemoryConfig,
    batch: TokenBatch,
    queries: Sequence[Query],
    cache: PrefillKVCache | DecodingKVCache | None = None,
) -> Earlier | None:
    """The earlier positions in a batch whose paths lead through those of the queries; None without a convolution."""
    if not config.kernel:
        return None
    num_rows, length = batch.ids.shape
    columns = np.full((batch.ids.size, config.kernel - 1), -1)
    for path, query in zip(batch.paths, queries, strict=True):
        past = query.first
        of_sequence = np.concatenate([np.arange(past), past + path % length])  # position → column of its row
        wanted = np.arange(past, past + len(path))[:, None] - _reach(config)  # positions
        columns[path] = np.where(wanted < 0, -1, of_sequence[wanted])
    return Earlier((num_rows, length), columns, cache)


def _reach(config: MemoryConfig) -> NDArray[np.int64]:
    """Distances of the kernel's earlier positions: it is dilated by the longest order (the paper, section 2.3)."""
    return np.arange(1, config.kernel) * max(config.orders, default=1)


def _normed(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + GATE_EPSILON) * weight
