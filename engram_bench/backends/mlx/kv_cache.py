"""KV caches in the form of mlx-lm: one object per block, which gives mask, offset, keys and values.

A shared prefix is stored once and repeated for every row only during a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx
import numpy as np
from mlx_lm.models.base import create_causal_mask
from numpy.typing import NDArray

ROOM = 32
"""Number of columns by which a decoding buffer grows."""


class PaddedKVCache:
    """Keys and values of one block for rows that follow a common prefix, (B, heads, P + T, size).

    Rows are padded on the right, so the causal mask already hides the padding from the tokens.

    Args:
        prefix: Cache of P tokens that precede every row, or None.
    """

    def __init__(self, prefix: PaddedKVCache | None = None) -> None:
        self._prefix = prefix
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    @property
    def offset(self) -> int:
        """Position of the first new token of a row."""
        return self._prefix.length if self._prefix else 0

    @property
    def length(self) -> int:
        """Number of columns, the prefix included."""
        return 0 if self.keys is None else int(self.keys.shape[2])

    def make_mask(
        self, num_tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """Mask with which each token sees the prefix and the tokens of its row up to itself."""
        if return_array or (window_size is not None and self.offset + num_tokens > window_size):
            mask: mx.array = create_causal_mask(num_tokens, self.offset, window_size=window_size)
            return mask
        return None if num_tokens == 1 else "causal"

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All keys and values: those of the prefix, then the new ones, which are stored."""
        if self._prefix is not None and self._prefix.keys is not None and self._prefix.values is not None:
            keys = mx.concatenate([repeat(self._prefix.keys, len(keys)), keys], axis=2)
            values = mx.concatenate([repeat(self._prefix.values, len(values)), values], axis=2)
        self.keys, self.values = keys, values
        return keys, values

    def rows(self) -> tuple[mx.array, mx.array]:
        """Keys and values of all rows, (B, heads, P + T, size)."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values


class FilledKVCache(Protocol):
    """Cache of one block after a prefill pass."""

    def rows(self) -> tuple[mx.array, mx.array]:
        """Keys and values of all sequences from their first token on, (B, heads, columns, size)."""


class DecodingRows:
    """Rows that are decoded together: their lengths, and the buffers of all blocks.

    Column c of a row holds the key of the token at position c. Therefore a new key goes to the column that equals the length
    of the row, and a query sees the columns up to its own.
    """

    def __init__(self, num_layers: int) -> None:
        self.lengths: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.columns = 0
        self.layers = [BlockKVCache(self) for _ in range(num_layers)]
        self.positions = mx.zeros((0,), dtype=mx.int32)
        self.indices = mx.zeros((0,), dtype=mx.int32)
        self._seen = 0

    def add(self, caches: Sequence[FilledKVCache], rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Add rows of a prefill pass at the end.

        Args:
            caches: Cache of each block after the pass.
            rows: Indices of the rows to add.
            lengths: Number of columns of each of these rows; further columns are padding.
        """
        self.lengths = np.concatenate([self.lengths, np.array(lengths, dtype=np.int64)])
        taken = mx.array(list(rows))
        longest = max(lengths)
        self._reserve(int(self.lengths.max()) + 1)
        for layer, cache in zip(self.layers, caches, strict=True):
            keys, values = cache.rows()
            layer.append(keys[taken, :, :longest], values[taken, :, :longest], self.columns)

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all rows except these."""
        self.lengths = self.lengths[list(rows)]
        kept = mx.array(list(rows))
        for layer in self.layers:
            layer.keep(kept)

    def begin_step(self) -> None:
        """Start a decoding step: make room for one more token in every row."""
        self._reserve(int(self.lengths.max()) + 1)
        self.positions = mx.array(self.lengths.astype(np.int32))
        self.indices = mx.arange(len(self.lengths))
        self._seen = int(self.lengths.max()) + 1
        self.lengths = self.lengths + 1

    def mask(self, window_size: int | None) -> mx.array | str | None:
        """Mask (B, 1, 1, columns in use) with which each query sees the columns of its row; None for equally long rows."""
        if window_size is None and (self.lengths == self.lengths[0]).all():
            return None
        columns = mx.arange(self._seen)
        visible = columns[None] <= self.positions[:, None]
        if window_size is not None:
            visible = visible & (columns[None] > self.positions[:, None] - window_size)
        return visible[:, None, None]

    @property
    def seen(self) -> int:
        """Number of columns in use in this step."""
        return self._seen

    def _reserve(self, columns: int) -> None:
        if columns > self.columns:
            self.columns = -(-columns // ROOM) * ROOM
            for layer in self.layers:
                layer.widen(self.columns)


class BlockKVCache:
    """Decoding buffers of one block, (B, heads, columns, size)."""

    def __init__(self, rows: DecodingRows) -> None:
        self._rows = rows
        self.keys: mx.array | None = None
        self.values: mx.array | None = None

    @property
    def offset(self) -> mx.array:
        """Position of the new token of each row, (B,)."""
        return self._rows.positions

    def make_mask(
        self, num_tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """Mask with which the new token of each row sees the columns of that row."""
        return self._rows.mask(window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All columns in use, after the new key and value of each row are stored in its next column."""
        rows, seen = self._rows, self._rows.seen
        assert self.keys is not None
        assert self.values is not None
        self.keys[rows.indices, :, rows.positions] = keys[:, :, 0]
        self.values[rows.indices, :, rows.positions] = values[:, :, 0]
        return self.keys[:, :, :seen], self.values[:, :, :seen]

    def append(self, keys: mx.array, values: mx.array, columns: int) -> None:
        """Add rows at the end, padded to *columns* columns."""
        keys, values = _widen(keys, columns), _widen(values, columns)
        self.keys = keys if self.keys is None else mx.concatenate([self.keys, keys])
        self.values = values if self.values is None else mx.concatenate([self.values, values])

    def keep(self, rows: mx.array) -> None:
        """Remove all rows except these."""
        assert self.keys is not None
        assert self.values is not None
        self.keys, self.values = self.keys[rows], self.values[rows]

    def widen(self, columns: int) -> None:
        """Pad the buffers to *columns* columns."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = _widen(self.keys, columns), _widen(self.values, columns)


def repeat(one: mx.array, rows: int) -> mx.array:
    """The single row *one* (1, …) repeated for *rows* rows, without a copy."""
    return mx.broadcast_to(one, (rows, *one.shape[1:]))


def _widen(array: mx.array, columns: int) -> mx.array:
    missing = columns - array.shape[2]
    return mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)]) if missing > 0 else array
