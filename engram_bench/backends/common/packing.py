"""Many token sequences in one forward pass, each computed exactly as if it were alone.

A *packed* batch is one row that holds a tree. A prefix that sequences share is stored and computed once; the rest branches
off. Every token sees its ancestors and itself, and its position is its depth. Therefore the system turn of a chat template
is computed once per batch instead of once per example, and nothing is padded. A *padded* batch has one row per sequence.
Both give the same values up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

TokenIds = Sequence[int]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Input of one forward pass: B rows of T tokens, whose keys are P cached tokens, which all see, and the T tokens."""

    ids: Integers
    """Token ids, (B, T)."""
    positions: Integers
    """Position of each token in its sequence, (B, T)."""
    mask: NDArray[np.bool_]
    """Whether token t sees key s, (B, T, P + T)."""
    paths: tuple[Integers, ...]
    """Index of each token in the flattened (B·T) batch, per sequence."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens that go through the model, padding included."""
        return self.ids.size


def pack(sequences: Sequence[TokenIds], *, past: int = 0) -> TokenBatch:
    """One row that holds all *sequences* as a tree.

    Args:
        sequences: Token ids. Equal sequences share every token; none may be empty.
        past: Number of tokens that are in the KV cache already and that all tokens see.
    """
    children: dict[tuple[int, int], int] = {}  # (parent, token id) → node
    parents: list[int] = []
    tokens: list[int] = []
    paths = []
    for sequence in sequences:
        path, node = [], -1
        for token in sequence:
            parent, node = node, children.setdefault((node, token), len(tokens))
            if node == len(tokens):
                parents.append(parent)
                tokens.append(token)
            path.append(node)
        paths.append(np.array(path, dtype=np.int64))
    positions = np.zeros(len(tokens), dtype=np.int64)
    for nodes in paths:
        positions[nodes] = np.arange(past, past + len(nodes))
    mask = np.zeros((len(tokens), past + len(tokens)), dtype=np.bool_)
    mask[:, :past] = True
    for node, parent in enumerate(parents):  # a parent always comes before its children
        if parent >= 0:
            mask[node] = mask[parent]
        mask[node, past + node] = True
    return TokenBatch(np.array([tokens], dtype=np.int64), positions[None], mask[None], tuple(paths))


def pad(sequences: Sequence[TokenIds], *, pad_id: int, past: int = 0) -> TokenBatch:
    """One row per sequence, padded on the right. A padding token sees the tokens before it, so that no softmax is empty."""
    length = max(map(len, sequences))
    ids = np.full((len(sequences), length), pad_id, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    positions = np.broadcast_to(np.arange(past, past + length), ids.shape).copy()
    causal = np.tri(length, past + length, past, dtype=np.bool_)
    mask = np.broadcast_to(causal, (len(sequences), *causal.shape))
    paths = tuple(np.arange(len(sequence)) + row * length for row, sequence in enumerate(sequences))
    return TokenBatch(ids, positions, mask, paths)


def shared_prefix(sequences: Sequence[TokenIds]) -> int:
    """Number of leading tokens that all *sequences* share, at most all but one of each; 0 without sequences."""
    if not sequences:
        return 0
    ordered = [tuple(sequence) for sequence in sequences]
    shared = _common(min(ordered), max(ordered))  # the extremes in lexical order share the prefix of all
    return max(0, min(shared, min(map(len, sequences)) - 1))


def group(sequences: Sequence[TokenIds], *, max_tokens: int, packed: bool = True) -> list[list[int]]:
    """Indices of *sequences* in groups of at most *max_tokens* tokens each; a longer sequence is a group of its own.

    Packed groups hold neighbours in lexical order, which share the most tokens. Padded groups hold neighbours in length,
    and padding counts.
    """
    order = sorted(range(len(sequences)), key=lambda i: (tuple(sequences[i]) if packed else (len(sequences[i]),), i))
    groups: list[list[int]] = []
    cost = 0
    for index in order:
        sequence = sequences[index]
        if groups and packed:
            added = cost + len(sequence) - _common(sequences[groups[-1][-1]], sequence)
        elif groups:
            added = len(sequence) * (len(groups[-1]) + 1)  # in order of length: the newest is the longest
        if groups and added <= max_tokens:
            groups[-1].append(index)
            cost = added
        else:
            groups.append([index])
            cost = len(sequence)
    return groups


def _common(one: TokenIds, other: TokenIds) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
