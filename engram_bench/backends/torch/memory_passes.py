"""Forward passes that train a memory: what it cannot change is computed once.

The base model is frozen, so the hidden states below the first block that is written to never change, and neither do the
keys and values of the positions before the first one that is written at. With a memory that writes late and only where an
answer is predicted, a pass runs the answers' few positions through the last blocks: a hundredth of the model's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.common.packing import Integers, TokenBatch, group, pack, pad, shared_prefix
from engram_bench.backends.torch.kv_cache import PrefillKVCache
from engram_bench.backends.torch.llama.attention import Span, attend
from engram_bench.backends.torch.llama.network import LlamaNetwork, join_heads, project
from engram_bench.backends.torch.network import Network, Writes
from engram_bench.backends.torch.transformers_network import TransformersNetwork
from engram_bench.system.progress import Progress

PACK_TOKENS = 384


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a prompt and its answer without the last label, and two positions in them."""

    ids: Sequence[int]
    written: int
    """The first position that the memory may write at."""
    predicts: int
    """The first position that predicts a label; all from there on do."""


class Passes(Protocol):
    """Passes over some of the examples. Of each only the positions from ``first`` on are computed."""

    def first(self, index: int) -> int:
        """The first position of example *index* that is computed."""

    def logits(self, members: Sequence[int], writes: Writes, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (N, V) at the members' positions that predict labels, with a graph where gradients are on.

        Of the tokens in *vocabulary* alone, in its order, if given.
        """


def open_passes(
    network: Network, examples: Sequence[Example], *, block: int, pad_id: int, cached: bool, progress: Progress
) -> Passes:
    """Passes over *examples* of a memory that writes to no block below *block*; if not *cached*, each pass computes all."""
    if isinstance(network, LlamaNetwork):
        if cached:
            return CachedPasses(network, examples, block, progress)
        whole = [Example(example.ids, 0, example.predicts) for example in examples]
        return CachedPasses(network, whole, 0, progress)
    assert isinstance(network, TransformersNetwork)
    return WholePasses(network, examples, pad_id)


class CachedPasses:
    """Passes from one block upwards over a Llama-shaped model."""

    def __init__(self, network: LlamaNetwork, examples: Sequence[Example], block: int, progress: Progress) -> None:
        self._network = network
        self._examples = examples
        self._block = block
        self._hidden: list[Tensor] = [torch.empty(0)] * len(examples)  # (positions, E)
        self._past: list[Tensor] = [torch.empty(0)] * len(examples)  # (blocks, keys and values, K, R, D)
        shared = min(shared_prefix([e.ids for e in examples]), min((e.written for e in examples), default=0))
        prefix = PrefillKVCache()
        if shared:
            batch = pack([examples[0].ids[:shared]])
            network.logits(batch, batch.paths[0][:0], lora=None, cache=prefix)
        self._prefix = self._upper(prefix)[:, :, 0] if shared else None  # (blocks, 2, K, P, D)
        self._shared = shared
        groups = group([example.ids for example in examples], max_tokens=PACK_TOKENS)
        for done, members in enumerate(groups, start=1):
            self._read(members, prefix if shared else None)
            progress("read", done, len(groups), "hidden states that stay the same")

    def first(self, index: int) -> int:
        """The first position of example *index* that is computed."""
        return self._examples[index].written

    def logits(self, members: Sequence[int], writes: Writes, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (N, V) at the members' positions that predict labels, with a graph where gradients are on."""
        network, examples = self._network, [self._examples[index] for index in members]
        hidden = [self._hidden[index] for index in members]
        x = torch.nn.utils.rnn.pad_sequence(hidden, batch_first=True)  # (B, A, E)
        shape = x.shape[:2]
        x = x.flatten(0, 1)  # (M, E)
        rope = network.rope(self._positions(examples, shape[1]))
        past = self._padded_past(members)
        span = self._span(examples, shape[1], past.shape[-2])
        kept = self._label_positions(examples, shape[1])
        last = len(network.blocks) - 1
        for position, index in enumerate(range(self._block, last + 1)):
            block = network.blocks[index]
            x = writes(index, x)
            joint = project(network.norm(x, block.attention_norm), block, {}, "qkv")
            query, key, value = network.split_heads(joint, rope, shape)
            key, value = (torch.cat([past[:, position, at], new], 2) for at, new in enumerate((key, value)))
            mixed = join_heads(attend(query, key, value, [span])[0])
            if index == last:
                x, mixed = x[kept], mixed[kept]
            x = x + project(mixed, block, {}, "out")
            gate, up = project(network.norm(x, block.mlp_norm), block, {}, "gate_up").chunk(2, -1)
            x = x + project(functional.silu(gate) * up, block, {}, "down")
        if vocabulary is None:
            return network.head_logits(x)
        return network.norm(x, network.final_norm) @ network.head[vocabulary.to(network.device)].T

    # ── what stays the same ─────────────────────────────────────────────────────────────────────

    def _read(self, members: Sequence[int], prefix: PrefillKVCache | None) -> None:
        """Keep the hidden states of the members' computed positions, and the keys and values of those before."""
        shared = self._shared
        batch = pack([self._examples[index].ids[shared:] for index in members], past=shared)
        seen: list[Tensor] = []

        def watch(block: int, hidden: Tensor) -> Tensor:
            if block == self._block:
                seen.append(hidden)
            return hidden

        cache = PrefillKVCache(prefix)
        self._network.logits(batch, batch.paths[0][:0], lora=None, cache=cache, writes=watch)
        upper = self._upper(cache)[:, :, 0]  # (blocks, 2, K, P + T, D)
        for index, path in zip(members, batch.paths, strict=True):
            before = self._examples[index].written - shared
            self._hidden[index] = seen[0][torch.from_numpy(path[before:])].clone()
            self._past[index] = upper[..., torch.from_numpy(path[:before] + shared), :]

    def _upper(self, cache: PrefillKVCache) -> Tensor:
        """Keys and values of the blocks that are computed, (blocks, 2, B, K, T, D)."""
        pairs = zip(cache.keys[self._block :], cache.values[self._block :], strict=True)
        return torch.stack([torch.stack(pair) for pair in pairs])

    # ── a batch ─────────────────────────────────────────────────────────────────────────────────

    def _padded_past(self, members: Sequence[int]) -> Tensor:
        """Keys and values before the computed positions, (B, blocks, 2, K, P + R, D)."""
        parts = [self._past[index].movedim(-2, 0) for index in members]  # (R, blocks, 2, K, D)
        rests = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True).movedim(1, -2)
        if self._prefix is None:
            return rests
        return torch.cat([self._prefix.expand(len(members), *self._prefix.shape), rests], -2)

    def _positions(self, examples: Sequence[Example], length: int) -> TokenBatch:
        positions = np.array([example.written for example in examples])[:, None] + np.arange(length)
        return TokenBatch(positions, positions, np.zeros((0, 0, 0), np.bool_), ())

    def _span(self, examples: Sequence[Example], length: int, past: int) -> Span:
        """Every computed position sees its example's positions before it."""
        before = np.array([example.written for example in examples])
        sees_past = np.arange(past) < before[:, None]  # (B, P + R)
        causal = np.broadcast_to(np.tri(length, dtype=np.bool_), (len(examples), length, length))
        mask = np.concatenate([np.broadcast_to(sees_past[:, None], (len(examples), length, past)), causal], -1)
        hidden = torch.from_numpy(~mask).to(self._network.device)[:, None, None]
        bias = torch.zeros(hidden.shape, device=self._network.device).masked_fill_(hidden, -torch.inf)
        return Span(slice(0, length), None, bias)

    def _label_positions(self, examples: Sequence[Example], length: int) -> Tensor:
        positions = [
            np.arange(example.predicts - example.written, len(example.ids) - example.written) + row * length
            for row, example in enumerate(examples)
        ]
        return torch.from_numpy(np.concatenate(positions)).to(self._network.device)


class WholePasses:
    """Passes over all positions and blocks of any model that transformers loads."""

    def __init__(self, network: TransformersNetwork, examples: Sequence[Example], pad_id: int) -> None:
        self._network = network
        self._examples = examples
        self._pad_id = pad_id

    def first(self, index: int) -> int:
        """All positions are computed."""
        return 0

    def logits(self, members: Sequence[int], writes: Writes, vocabulary: Tensor | None = None) -> Tensor:
        """Logits (N, V) at the members' positions that predict labels, with a graph where gradients are on."""
        examples = [self._examples[index] for index in members]
        batch = pad([example.ids for example in examples], pad_id=self._pad_id)
        positions = zip(batch.paths, examples, strict=True)
        rows: Integers = np.concatenate([path[example.predicts :] for path, example in positions])
        logits = self._network.forward(batch, rows, None, None, writes)
        return logits if vocabulary is None else logits[:, vocabulary]
