"""Keys and values as mlx-lm's models take them: one cache object per block, asked for a mask, an offset and the keys.

A shared prefix is held once and repeated for every row only while it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx
import numpy as np
from mlx_lm.models.base import create_causal_mask
from numpy.typing import NDArray

ROOM = 32
"""Columns a decoding buffer grows by."""


class PaddedKVCache:
    """One block's keys and values of rows that start together behind a common prefix, (B, heads, P + T, size).

    A row is padded on the right, so the causal mask already hides its filler from its tokens.
    """

    def __init__(self, prefix: PaddedKVCache | None = None) -> None:
        self._prefix = prefix
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    @property
    def offset(self) -> int:
        """Position of a row's first new token."""
        return self._prefix.length if self._prefix else 0

    @property
    def length(self) -> int:
        """Columns, prefix included."""
        return 0 if self.keys is None else int(self.keys.shape[2])

    def make_mask(
        self, num_tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """Each token sees the prefix and the tokens of its row up to itself."""
        if return_array or (window_size is not None and self.offset + num_tokens > window_size):
            mask: mx.array = create_causal_mask(num_tokens, self.offset, window_size=window_size)
            return mask
        return None if num_tokens == 1 else "causal"

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All keys and values, the prefix's in front of the new ones."""
        if self._prefix is not None and self._prefix.keys is not None and self._prefix.values is not None:
            keys = mx.concatenate([repeat(self._prefix.keys, len(keys)), keys], axis=2)
            values = mx.concatenate([repeat(self._prefix.values, len(values)), values], axis=2)
        self.keys, self.values = keys, values
        return keys, values

    def rows(self) -> tuple[mx.array, mx.array]:
        """Keys and values of each row, (B, heads, P + T, size)."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values


class FilledKVCache(Protocol):
    """What a reading pass leaves behind in each block."""

    def rows(self) -> tuple[mx.array, mx.array]:
        """Keys and values of each sequence from its first token on, (B, heads, columns, size)."""


class DecodingRows:
    """What the blocks' decoding buffers have in common: which rows there are and how long each is.

    Column c of a row holds the key of its token at position c, so a row's new key goes to column *length* and a query sees
    the columns up to its own.
    """

    def __init__(self, num_layers: int) -> None:
        self.lengths: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.columns = 0
        self.layers = [BlockKVCache(self) for _ in range(num_layers)]
        self.positions = mx.zeros((0,), dtype=mx.int32)
        self.places = mx.zeros((0,), dtype=mx.int32)
        self._seen = 0

    def add(self, caches: Sequence[FilledKVCache], rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Take over *rows* of the caches of a reading pass, of which the first *lengths* columns are the rows' own."""
        self.lengths = np.concatenate([self.lengths, np.array(lengths, dtype=np.int64)])
        taken = mx.array(list(rows))
        longest = max(lengths)
        self._reserve(int(self.lengths.max()) + 1)
        for layer, cache in zip(self.layers, caches, strict=True):
            keys, values = cache.rows()
            layer.append(keys[taken, :, :longest], values[taken, :, :longest], self.columns)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        self.lengths = self.lengths[list(rows)]
        kept = mx.array(list(rows))
        for layer in self.layers:
            layer.keep(kept)

    def begin_step(self) -> None:
        """Make room for one more token in every row; the blocks then store keys and see masks of this step."""
        self._reserve(int(self.lengths.max()) + 1)
        self.positions = mx.array(self.lengths.astype(np.int32))
        self.places = mx.arange(len(self.lengths))
        self._seen = int(self.lengths.max()) + 1
        self.lengths = self.lengths + 1

    def mask(self, window_size: int | None) -> mx.array | str | None:
        """(B, 1, 1, columns in use): a row's query sees its own columns; None where all rows are equally long."""
        if window_size is None and (self.lengths == self.lengths[0]).all():
            return None
        columns = mx.arange(self._seen)
        visible = columns[None] <= self.positions[:, None]
        if window_size is not None:
            visible = visible & (columns[None] > self.positions[:, None] - window_size)
        return visible[:, None, None]

    @property
    def seen(self) -> int:
        """Columns in use in this step."""
        return self._seen

    def _reserve(self, columns: int) -> None:
        if columns > self.columns:
            self.columns = -(-columns // ROOM) * ROOM
            for layer in self.layers:
                layer.widen(self.columns)


class BlockKVCache:
    """One block's decoding buffers, (B, heads, columns, size)."""

    def __init__(self, rows: DecodingRows) -> None:
        self._rows = rows
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    @property
    def offset(self) -> mx.array:
        """Position of each row's new token, (B,)."""
        return self._rows.positions

    def make_mask(
        self, num_tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """Each row's new token sees the row's own columns."""
        return self._rows.mask(window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store the new token's key and value in each row's next column; all columns in use."""
        rows, seen = self._rows, self._rows.seen
        assert self.keys is not None
        assert self.values is not None
        self.keys[rows.places, :, rows.positions] = keys[:, :, 0]
        self.values[rows.places, :, rows.positions] = values[:, :, 0]
        return self.keys[:, :, :seen], self.values[:, :, :seen]

    def append(self, keys: mx.array, values: mx.array, columns: int) -> None:
        """More rows at the end."""
        keys, values = _widen(keys, columns), _widen(values, columns)
        self.keys = keys if self.keys is None else mx.concatenate([self.keys, keys])
        self.values = values if self.values is None else mx.concatenate([self.values, values])

    def keep(self, rows: mx.array) -> None:
        """Only these rows."""
        assert self.keys is not None
        assert self.values is not None
        self.keys, self.values = self.keys[rows], self.values[rows]

    def widen(self, columns: int) -> None:
        """Room for *columns* columns."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = _widen(self.keys, columns), _widen(self.values, columns)


def repeat(one: mx.array, rows: int) -> mx.array:
    """*one* (1, …) for each of *rows* rows, without a copy."""
    return mx.broadcast_to(one, (rows, *one.shape[1:]))


def _widen(array: mx.array, columns: int) -> mx.array:
    missing = columns - array.shape[2]
    return mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)]) if missing > 0 else array
