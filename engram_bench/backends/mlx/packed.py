"""Attention over a packed row: the row is split into sequences and joined again; and the KV cache of such a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from engram_bench.backends.mlx.kernels import HIDDEN_SCORE
from engram_bench.backends.mlx.kv_cache import PaddedKVCache, repeat


class Layout:
    """Layout of a packed row [shared part][sequence 1][sequence 2]…, which attention splits and joins again.

    Args:
        lengths: Number of tokens of each sequence without the shared part.
        lead: Number of tokens of the shared part, which every sequence sees.
        past: Number of cached tokens before the row, which every token sees.

    Attributes:
        lead: Number of tokens of the shared part.
        past: Number of cached tokens before the row.
        positions: Position of each token in its sequence, (T,).
    """

    def __init__(self, lengths: Sequence[int], *, lead: int, past: int) -> None:
        self.lead = lead
        self.past = past
        own = np.arange(max(lengths)) < np.array(lengths)[:, None]  # (B, L)
        self._own = own
        self._slots = np.zeros(
            own.shape, dtype=np.int64
        )  # (B, L) index in the row after the shared part; 0 for padding
        self._slots[own] = np.arange(own.sum())
        self._back = np.flatnonzero(own)  # (T - lead,) index among the B · L slots
        starts = [np.arange(lead), *(np.arange(lead, lead + length) for length in lengths)]
        self.positions = mx.array((np.concatenate(starts) + past).astype(np.int32))
        self._gathers: dict[int, tuple[mx.array, mx.array, mx.array]] = {}

    def apart(self, packed: mx.array) -> mx.array:
        """Tokens of each sequence, (B, H, L, size), from a packed row (1, H, T, size), without the shared part.

        Padding repeats some token and gets no gradient, so no result may depend on padding.
        """
        forth, back, _ = self._indices(packed.shape[1])
        return _gather(forth, back, packed)

    def together(self, rows: mx.array) -> mx.array:
        """The packed row (1, H, T - lead, size) of sequences (B, H, L, size)."""
        forth, back, own = self._indices(rows.shape[1])
        return _gather_back(forth, back, own, rows)

    def _indices(self, heads: int) -> tuple[mx.array, mx.array, mx.array]:
        """Index of each slot and head in a (T · H, size) matrix, of each token and head in (B · H · L, size), and a mask.

        The mask (B, 1, L, 1) is 1 for tokens and 0 for padding.
        """
        if heads not in self._gathers:
            longest = self._own.shape[1]
            head = np.arange(heads)
            forth = self._slots[:, None, :] * heads + head[:, None]  # (B, H, L)
            row, column = np.divmod(self._back, longest)
            back = (row[:, None] * heads + head) * longest + column[:, None]  # (T - lead, H)
            own = self._own[:, None, :, None].astype(np.float32)  # (B, 1, L, 1)
            self._gathers[heads] = (mx.array(forth.astype(np.int32)), mx.array(back.astype(np.int32)), mx.array(own))
        return self._gathers[heads]


def _gather(forth: mx.array, back: mx.array, packed: mx.array) -> mx.array:
    """Gather by *forth* with a gradient that gathers by *back*; mlx itself would scatter, one number at a time."""

    @mx.custom_function  # type: ignore[untyped-decorator]
    def gather(packed: mx.array) -> mx.array:
        return mx.take(packed.swapaxes(1, 2).reshape(-1, packed.shape[-1]), forth, axis=0)

    @gather.vjp  # type: ignore[untyped-decorator]
    def gradient(primals: Any, cotangent: mx.array, output: mx.array) -> mx.array:
        return mx.take(cotangent.reshape(-1, cotangent.shape[-1]), back, axis=0)[None].swapaxes(1, 2)

    rows: mx.array = gather(packed)
    return rows


def _gather_back(forth: mx.array, back: mx.array, own: mx.array, rows: mx.array) -> mx.array:
    """Gather by *back* with a gradient that gathers by *forth*, which is 0 where *own* is."""

    @mx.custom_function  # type: ignore[untyped-decorator]
    def gather(rows: mx.array) -> mx.array:
        return mx.take(rows.reshape(-1, rows.shape[-1]), back, axis=0)[None].swapaxes(1, 2)

    @gather.vjp  # type: ignore[untyped-decorator]
    def gradient(primals: Any, cotangent: mx.array, output: mx.array) -> mx.array:
        return mx.take(cotangent.swapaxes(1, 2).reshape(-1, cotangent.shape[-1]), forth, axis=0) * own

    packed: mx.array = gather(rows)
    return packed


class PackedKVCache:
    """Keys and values of one block for a packed row, (1, heads, T, size).

    Args:
        layout: Layout of the row.
        prefix: Cache of the tokens before the row, or None.
    """

    def __init__(self, layout: Layout, prefix: PaddedKVCache | None = None) -> None:
        self._layout = layout
        self._prefix = prefix
        self._keys: mx.array | None = None
        self._values: mx.array | None = None

    @property
    def offset(self) -> mx.array:
        """Position of each token in its sequence, (T,)."""
        return self._layout.positions

    def make_mask(self, num_tokens: int, return_array: bool = False, window_size: int | None = None) -> None:
        """No mask: :meth:`attend` masks each sequence after the row is split."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The given keys and values, which are stored."""
        self._keys, self._values = keys, values
        return keys, values

    def attend(self, queries: mx.array, attention: Callable[..., mx.array]) -> mx.array:
        """Attention (1, H, T, size), in which each token sees the tokens of its sequence up to itself.

        Args:
            queries: Queries of the packed row, (1, H, T, size).
            attention: Function of queries, keys, values and mask.
        """
        lead, layout = self._layout.lead, self._layout
        keys, values = self.rows()
        num_queries = keys.shape[2] - layout.past - lead
        mask = _causal(num_queries, keys.shape[2])
        result = layout.together(attention(layout.apart(queries[:, :, lead:]), keys, values, mask))
        if not lead:
            return result
        assert self._keys is not None
        assert self._values is not None
        past_keys, past_values = (self._prefix.keys, self._prefix.values) if self._prefix else (None, None)
        first_keys = _join(past_keys, self._keys[:, :, :lead])
        first_values = _join(past_values, self._values[:, :, :lead])
        first = attention(queries[:, :, :lead], first_keys, first_values, _causal(lead, first_keys.shape[2]))
        return mx.concatenate([first, result], axis=2)

    def rows(self) -> tuple[mx.array, mx.array]:
        """Keys and values of all sequences, (B, heads, past + lead + L, size)."""
        assert self._keys is not None
        assert self._values is not None
        found = []
        for own, past in (
            (self._keys, self._prefix.keys if self._prefix else None),
            (self._values, self._prefix.values if self._prefix else None),
        ):
            lead = self._layout.lead
            rest = self._layout.apart(own[:, :, lead:])
            shared = _join(past, own[:, :, :lead]) if lead else past
            found.append(rest if shared is None else mx.concatenate([repeat(shared, len(rest)), rest], axis=2))
        return found[0], found[1]


def _causal(num_queries: int, num_keys: int) -> mx.array:
    """Causal mask (T, S) of numbers to add to scores; the last query sees every key."""
    visible = np.tri(num_queries, num_keys, num_keys - num_queries, dtype=np.bool_)
    return mx.array(np.where(visible, 0.0, HIDDEN_SCORE).astype(np.float32))


def _join(one: mx.array | None, other: mx.array) -> mx.array:
    return other if one is None else mx.concatenate([one, other], axis=2)
