"""Many sequences in one pass through the blocks, each computed exactly as if it were alone.

*Packed*: one row, the sequences one behind the other, what all share in front of them once. Matrix products see no
filler and the shared part costs one sequence's work; attention takes the row apart. *Padded*: one row per sequence, filled
up on the right, the shared part in a pass of its own. Both give the same values up to the order of additions.
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
    """Token ids laid out for one pass behind *past* tokens that are known already."""

    ids: mx.array
    """Packed (1, lead + all tokens), padded (B, longest)."""
    lead: mx.array
    """(1, shared) ids of a padded pass's shared part; empty where there is none or it stands in the packed row."""
    layout: Layout | None
    """How a packed row is taken apart; None for a padded pass."""
    paths: tuple[Integers, ...]
    """Per sequence the place of each of its tokens, shared ones left out, among the flattened hidden states."""
    past: int

    @property
    def num_tokens(self) -> int:
        """Tokens that go through the model, filler included."""
        return int(self.ids.size + self.lead.size)


def plan_pass(sequences: Sequence[TokenIds], *, packed: bool, pad_id: int, past: int = 0, shared: int = 0) -> Pass:
    """A pass over *sequences*, whose first *shared* tokens are the same and are computed once. None may be empty."""
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
    """Hidden states (N, hidden) that *plan.paths* points into, and the caches of the pass.

    *prefix* holds the keys of the *plan.past* tokens before it; *writes* changes what goes into the blocks.
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
    """Indices in groups of similar length that cost at most *max_tokens* each; a longer sequence is one of its own."""
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
