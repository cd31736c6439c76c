"""Many sequences in one pass through the blocks, each computed exactly as if it were alone.

A *packed* pass has one row: the shared prefix once, then the sequences one after the other. Matrix products compute no
padding, and attention splits the row. A *padded* pass has one row per sequence, padded on the right, and computes the shared
prefix in a separate pass. Both give the same values up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.packing import shared_prefix
from engram_bench.backends.mlx.kv_cache import PaddedKVCache
from engram_bench.backends.mlx.network import MlxNetwork, Writes
from engram_bench.backends.mlx.packed import Layout, PackedKVCache

TokenIds = Sequence[int]
Integers = NDArray[np.int64]
Caches = Sequence[PaddedKVCache | PackedKVCache]


@dataclass(frozen=True, slots=True)
class Pass:
    """Token ids of one pass, arranged in rows."""

    ids: mx.array
    """Token ids, (1, shared + all tokens) of a packed pass or (B, longest) of a padded one."""
    lead: mx.array
    """Token ids of the shared prefix of a padded pass, (1, shared); empty for a packed pass."""
    layout: Layout | None
    """Layout of the packed row; None for a padded pass."""
    paths: tuple[Integers, ...]
    """Index of each token after the shared prefix in the flattened hidden states, per sequence."""
    past: int
    """Number of tokens before this pass, which are in a KV cache."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens that go through the model, padding included."""
        return int(self.ids.size + self.lead.size)


def plan_pass(sequences: Sequence[TokenIds], *, packed: bool, pad_id: int, past: int = 0, shared: int = 0) -> Pass:
    """A pass over *sequences*.

    Args:
        sequences: Token ids; no sequence may be empty.
        packed: Whether all sequences share one row.
        pad_id: Token id that fills padded rows.
        past: Number of tokens before every sequence, which are in a KV cache.
        shared: Number of leading tokens that all sequences share and that are computed once.
    """
    rests = [sequence[shared:] for sequence in sequences]
    lead = np.array([sequences[0][:shared]], dtype=np.int64)  # (1, shared)
    lengths = np.array([len(rest) for rest in rests])
    longest = int(lengths.max())
    own = np.arange(longest) < lengths[:, None]  # (B, longest)
    if not packed:
        ids = np.full(own.shape, pad_id, dtype=np.int64)
        ids[own] = np.concatenate(rests)
        paths = tuple(np.arange(length) + row * longest for row, length in enumerate(lengths))
        return Pass(mx.array(ids), mx.array(lead), None, paths, past)
    ids = np.concatenate([lead[0], *rests])[None]
    layout = Layout(lengths.tolist(), lead=shared, past=past)
    starts = shared + np.cumsum(lengths) - lengths
    paths = tuple(np.arange(length) + start for start, length in zip(starts, lengths, strict=True))
    return Pass(mx.array(ids), mx.array(np.zeros((1, 0), dtype=np.int64)), layout, paths, past)


def hidden_states(
    network: MlxNetwork, plan: Pass, prefix: Sequence[PaddedKVCache] | None = None, writes: Writes | None = None
) -> tuple[mx.array, Caches]:
    """Last hidden states (N, hidden), which *plan.paths* indexes, and the KV cache of each block.

    Args:
        network: Network with its adapter, if any.
        plan: Token ids of the pass.
        prefix: KV cache, per block, of the *plan.past* tokens before the pass.
        writes: Changes of a memory to the hidden states that enter each block.
    """
    caches: Caches
    if plan.layout is not None:
        caches = [PackedKVCache(plan.layout, prefix[i] if prefix else None) for i in range(network.num_layers)]
    else:
        if plan.lead.size:
            lead = network.pass_caches(prefix)
            network.hidden(plan.lead, lead)
            prefix = lead
        caches = network.pass_caches(prefix)
    hidden = network.hidden(plan.ids, caches, writes)  # (B, T, hidden)
    return hidden.reshape(-1, hidden.shape[-1]), caches


def group(lengths: Sequence[int], *, max_tokens: int, packed: bool) -> list[list[int]]:
    """Indices in groups of similar *lengths* with at most *max_tokens* tokens each, padding included.

    A longer sequence is a group of its own.
    """
    groups: list[list[int]] = []
    cost = 0
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        length = lengths[index]
        cost = cost + length if packed or not groups else length * (len(groups[-1]) + 1)
        if groups and cost <= max_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
            cost = length
    return groups


__all__ = ["Caches", "Pass", "group", "hidden_states", "plan_pass", "shared_prefix"]
