"""Training a memory's rows with mlx: what the memory cannot change is computed once.

The hidden states below the first block that is written to never change, nor do the keys and values of the positions before
the first one that is written at: a pass runs the answers' few positions through the last blocks, which are the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from numpy.typing import NDArray

from engram_bench.backends.mlx.memory import MlxMemoryWrites
from engram_bench.backends.mlx.network import MlxNetwork, Writes
from engram_bench.backends.mlx.passes import group, hidden_states, plan_pass, shared_prefix
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.table import KeyedExample
from engram_bench.memory.values import ReadValues, Values
from engram_bench.system.progress import Progress

PREFILL_TOKENS = 1024


@dataclass(frozen=True)
class MlxMemoryEngine:
    """Computes with mlx what the training of a memory needs of a frozen network; the memory's values stay in numpy."""

    network: MlxNetwork
    context_length: int
    packed: bool
    """Read the examples in packed rows, where the network can."""
    cached: bool = True
    """Compute once what the memory cannot change; False is the plain way with the same result."""

    def array(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of *values*."""
        return values.copy()

    def numpy(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The *array* itself."""
        return array

    def scales(self, examples: Sequence[KeyedExample], blocks: Sequence[int]) -> dict[int, float]:
        """Median size of the hidden state's values where the examples' answers are predicted, before each block."""
        seen: dict[int, list[NDArray[np.float32]]] = {block: [] for block in blocks}
        for example in examples:
            query = example.query

            def watch(block: int, hidden: mx.array, first: int = query.first) -> mx.array:
                if block in seen:
                    seen[block].append(np.abs(np.array(hidden[0, first:].astype(mx.float32))).ravel())
                return hidden

            self.network.hidden(mx.array([list(query.ids)]), self.network.pass_caches(), watch)
        return {block: float(np.median(np.concatenate(parts))) for block, parts in seen.items()}

    def passes(
        self,
        examples: Sequence[KeyedExample],
        config: MemoryConfig,
        scales: Mapping[int, float],
        *,
        pad_id: int,
        progress: Progress,
    ) -> MlxMemoryPasses:
        """Passes over the examples for a memory of this shape."""

        def upper(firsts: Sequence[int], block: int) -> UpperPasses:
            return UpperPasses(
                self.network, examples, firsts, block, pad_id=pad_id, packed=self.packed, progress=progress
            )

        firsts = [len(each.prompt.ids) - 1 if config.answers_only and self.cached else 0 for each in examples]
        passes = upper(firsts, min(config.layers) if self.cached else 0)
        if not passes.agree():  # a model whose blocks are not the same wherever they stand
            passes = upper([0] * len(examples), 0)
        return MlxMemoryPasses(passes, config, scales)


class MlxMemoryPasses:
    """Passes through a frozen network to which a memory adds what it has."""

    def __init__(self, passes: UpperPasses, config: MemoryConfig, scales: Mapping[int, float]) -> None:
        self._passes = passes
        self._gate = config.gate
        self._scales = scales

    def first(self, index: int) -> int:
        """The first position of an example that is computed."""
        return self._passes.firsts[index]

    def gradients(
        self, members: Sequence[int], read: ReadValues, targets: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], dict[int, Values]]:
        """The losses (nats) of the members' labels among *tokens*, (N,), and the gradients of their sum."""
        wanted = mx.array(targets)

        def loss(layers: dict[int, dict[str, mx.array]]) -> tuple[mx.array, mx.array]:
            logits = self._passes.logits(self._passes.states(members, self._writes(layers, read)), tokens)
            losses = nn.losses.cross_entropy(logits, wanted)
            return losses.sum(), losses

        (_, losses), found = mx.value_and_grad(loss)(_layers(read))
        mx.eval(losses, found)
        gradients: dict[int, Values] = {
            block: {name: np.array(gradient) for name, gradient in layer.items()} for block, layer in found.items()
        }
        return np.array(losses, dtype=np.float64), gradients

    def likely(self, members: Sequence[int], read: ReadValues, count: int) -> NDArray[np.int64]:
        """The *count* likeliest tokens at each position that predicts a label, (N, count), the best first."""
        states = self._passes.states(members, self._writes(_layers(read), read))
        logits = np.array(self._passes.logits(states))
        some = np.argpartition(-logits, min(count, logits.shape[-1]) - 1)[:, :count]
        order = np.argsort(-np.take_along_axis(logits, some, 1), axis=1, kind="stable")
        found: NDArray[np.int64] = np.take_along_axis(some, order, 1)
        return found

    def _writes(self, layers: Mapping[int, Values], read: ReadValues) -> MlxMemoryWrites:
        return MlxMemoryWrites(layers, self._scales, self._gate, read.slots)


def _layers(read: ReadValues) -> dict[int, dict[str, mx.array]]:
    return {block: {name: mx.array(v) for name, v in layer.items()} for block, layer in read.layers.items()}


class UpperPasses:
    """Passes of the examples' positions from *firsts* on through the blocks from *block* on."""

    def __init__(
        self,
        network: MlxNetwork,
        examples: Sequence[KeyedExample],
        firsts: Sequence[int],
        block: int,
        *,
        pad_id: int,
        packed: bool,
        progress: Progress,
    ) -> None:
        self._network = network
        self._block = block
        self.firsts = firsts
        self._predicts = [len(example.prompt.ids) - 1 for example in examples]
        self._sequences = sequences = [example.query.ids for example in examples]
        self._shared = min(shared_prefix(sequences) if len(sequences) > 1 else 0, *firsts)
        self._hidden: dict[int, NDArray[Any]] = {}  # (positions, H)
        self._past: dict[int, list[tuple[NDArray[Any], NDArray[Any]]]] = {}  # per block keys and values (K, R, D)
        self._prefix: list[tuple[mx.array, mx.array]] = []  # per block (1, K, P, D)
        groups = group([len(ids) for ids in sequences], max_tokens=PREFILL_TOKENS, packed=packed and network.packs)
        for done, members in enumerate(groups, start=1):
            plan = plan_pass([sequences[i] for i in members], packed=packed and network.packs, pad_id=pad_id)
            self._read(members, plan)
            progress("read", done, len(groups), "hidden states that stay the same")

    def agree(self) -> bool:
        """Whether the upper blocks by themselves make of the first example what the whole model does."""
        index, ids = 0, self._sequences[0]
        whole = self._network.hidden(mx.array([list(ids)]), self._network.pass_caches())[0, self._predicts[index] :]
        part = self.states([index], lambda _, hidden: hidden)
        size = mx.abs(whole).max().item()
        return bool(mx.allclose(whole.astype(mx.float32), part.astype(mx.float32), rtol=1e-2, atol=1e-2 * size))

    def logits(self, states: mx.array, tokens: NDArray[np.int64] | None = None) -> mx.array:
        """Logits of last hidden states (N, H) for some *tokens*, (N, n); for all of them, (N, V), if None."""
        if tokens is None:
            return self._network.logits(states)
        if (head := self._network.plain_head) is not None:
            return (states @ head[mx.array(tokens)].T).astype(mx.float32)
        return self._network.logits(states)[:, mx.array(tokens)]

    def states(self, members: Sequence[int], writes: Writes) -> mx.array:
        """Last hidden states (N, H) at the members' positions that predict labels."""
        hidden = _padded([self._hidden[index] for index in members], 0)  # (B, T, H)
        lengths = np.array([self.firsts[index] for index in members])
        caches = [self._past_of(members, lengths, layer) for layer in range(len(self._prefix))]
        given = mx.array(hidden)

        def replaced(block: int, computed: mx.array) -> mx.array:
            return writes(block, given.astype(computed.dtype) if block == self._block else computed)

        ids = mx.zeros(hidden.shape[:2], dtype=mx.int32)  # their embeddings are replaced below
        last = self._network.hidden(ids, caches, replaced, first_block=self._block)
        positions = [
            np.arange(self._predicts[index] - self.firsts[index], len(self._hidden[index])) + row * hidden.shape[1]
            for row, index in enumerate(members)
        ]
        return last.reshape(-1, last.shape[-1])[mx.array(np.concatenate(positions))]

    def _read(self, members: Sequence[int], plan: Any) -> None:
        seen: list[mx.array] = []

        def watch(block: int, hidden: mx.array) -> mx.array:
            if block == self._block:
                seen.append(hidden.reshape(-1, hidden.shape[-1]))
            return hidden

        _, caches = hidden_states(self._network, plan, writes=watch)
        kept = [tuple(np.array(part.astype(mx.float32)) for part in cache.rows()) for cache in caches[self._block :]]
        states = np.array(seen[0].astype(mx.float32))
        for row, (index, path) in enumerate(zip(members, plan.paths, strict=True)):
            first = self.firsts[index]
            self._hidden[index] = states[path[first:]]
            own = slice(self._shared, first)
            self._past[index] = [(k[row, :, own].copy(), v[row, :, own].copy()) for k, v in kept]
        if not self._prefix:
            self._prefix = [(mx.array(k[:1, :, : self._shared]), mx.array(v[:1, :, : self._shared])) for k, v in kept]

    def _past_of(self, members: Sequence[int], lengths: NDArray[np.int64], layer: int) -> BatchedPast:
        pairs = [self._past[index][layer] for index in members]
        parts = []
        for at, prefix in enumerate(self._prefix[layer]):
            rest = mx.array(_padded([pair[at] for pair in pairs], 1))  # (B, K, R, D)
            front = mx.broadcast_to(prefix, (len(members), *prefix.shape[1:]))
            parts.append(mx.concatenate([front, rest], axis=2))
        return BatchedPast(parts[0], parts[1], lengths)


@dataclass
class BatchedPast:
    """One block's keys and values (B, K, P, D) of rows of different lengths, before the positions that a pass computes."""

    keys: mx.array
    values: mx.array
    lengths: NDArray[np.int64]

    @property
    def offset(self) -> mx.array:
        """Position of each row's first computed position, (B,)."""
        return mx.array(self.lengths.astype(np.int32))

    def make_mask(self, num_tokens: int, return_array: bool = False, window_size: int | None = None) -> mx.array:
        """(B, 1, T, P + T): a position sees its row's past and the computed positions up to itself."""
        past = self.keys.shape[2]
        rows = len(self.lengths)
        before = np.broadcast_to((np.arange(past) < self.lengths[:, None])[:, None], (rows, num_tokens, past))
        causal = np.broadcast_to(np.tri(num_tokens, dtype=np.bool_), (rows, num_tokens, num_tokens))
        visible = np.concatenate([before, causal], -1)
        assert window_size is None or past + num_tokens <= window_size, (
            "examples are longer than the attention's window"
        )
        return mx.array(visible[:, None])

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The past's, then the given ones."""
        past_keys, past_values = self.keys.astype(keys.dtype), self.values.astype(values.dtype)
        return mx.concatenate([past_keys, keys], axis=2), mx.concatenate([past_values, values], axis=2)


def _padded(parts: Sequence[NDArray[Any]], axis: int) -> NDArray[Any]:
    """The parts one above the other, filled up with zeros on *axis*."""
    longest = max(part.shape[axis] for part in parts)
    widths = [[(0, longest - part.shape[axis]) if at == axis else (0, 0) for at in range(part.ndim)] for part in parts]
    return np.stack([np.pad(part, width) for part, width in zip(parts, widths, strict=True)])
