"""Keys and values as mlx-lm's models take them: one cache object per block, asked for a mask, an offset and the keys.

A shared prefix is held once and repeated for every row only while it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.base import create_causal_mask
from numpy.typing import NDArray

from engram_bench.backends.mlx.kernels import HIDDEN_SCORE

ROOM = 32
"""Columns a decoding buffer grows by."""


class PassCache:
    """One block's keys and values of rows that start together behind a common prefix, (B, heads, P + T, size).

    A row is padded on the right, so the causal mask already hides its filler from its tokens.
    """

    def __init__(self, prefix: PassCache | None = None) -> None:
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
            keys = mx.concatenate([_repeat(self._prefix.keys, len(keys)), keys], axis=2)
            values = mx.concatenate([_repeat(self._prefix.values, len(values)), values], axis=2)
        self.keys, self.values = keys, values
        return keys, values

    def rows(self) -> tuple[mx.array, mx.array]:
        """Keys and values, (B, heads, P + T, size)."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values


class Layout:
    """How a packed row [shared part][sequence 1][sequence 2]… is taken apart for attention and put together again.

    Attributes:
        lead: Tokens of the shared part, which every sequence sees.
        past: Cached tokens before the row, which every token sees.
        positions: (T,) position of each token in its sequence.
    """

    def __init__(self, lengths: Sequence[int], *, lead: int, past: int) -> None:
        self.lead = lead
        self.past = past
        own = np.arange(max(lengths)) < np.array(lengths)[:, None]  # (B, L)
        self._own = own
        self._slots = np.zeros(own.shape, dtype=np.int64)  # (B, L) place in the row behind the shared part; filler: 0
        self._slots[own] = np.arange(own.sum())
        self._back = np.flatnonzero(own)  # (T - lead,) place among the B · L slots
        starts = [np.arange(lead), *(np.arange(lead, lead + length) for length in lengths)]
        self.positions = mx.array((np.concatenate(starts) + past).astype(np.int32))
        self._gathers: dict[int, tuple[mx.array, mx.array, mx.array]] = {}

    def apart(self, packed: mx.array) -> mx.array:
        """Each sequence's tokens (B, H, L, size) of a packed (1, H, T, size), without the shared part.

        Filler repeats some token and has no part in the gradient: nothing that is used may depend on it.
        """
        forth, back, _ = self._indices(packed.shape[1])
        return _gather(forth, back, packed)

    def together(self, rows: mx.array) -> mx.array:
        """The packed (1, H, T - lead, size) of rows (B, H, L, size)."""
        forth, back, own = self._indices(rows.shape[1])
        return _gather_back(forth, back, own, rows)

    def _indices(self, heads: int) -> tuple[mx.array, mx.array, mx.array]:
        """Per slot and head the row of a (T · H, size) matrix, per token and head that of (B · H · L, size), the filler."""
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
    """A gather whose gradient is the gather back: mlx would scatter, number by number."""

    @mx.custom_function  # type: ignore[untyped-decorator]
    def gather(packed: mx.array) -> mx.array:
        return mx.take(packed.swapaxes(1, 2).reshape(-1, packed.shape[-1]), forth, axis=0)

    @gather.vjp  # type: ignore[untyped-decorator]
    def gradient(primals: Any, cotangent: mx.array, output: mx.array) -> mx.array:
        return mx.take(cotangent.reshape(-1, cotangent.shape[-1]), back, axis=0)[None].swapaxes(1, 2)

    rows: mx.array = gather(packed)
    return rows


def _gather_back(forth: mx.array, back: mx.array, own: mx.array, rows: mx.array) -> mx.array:
    @mx.custom_function  # type: ignore[untyped-decorator]
    def gather(rows: mx.array) -> mx.array:
        return mx.take(rows.reshape(-1, rows.shape[-1]), back, axis=0)[None].swapaxes(1, 2)

    @gather.vjp  # type: ignore[untyped-decorator]
    def gradient(primals: Any, cotangent: mx.array, output: mx.array) -> mx.array:
        return mx.take(cotangent.swapaxes(1, 2).reshape(-1, cotangent.shape[-1]), forth, axis=0) * own

    packed: mx.array = gather(rows)
    return packed


class PackCache:
    """One block's keys and values of a packed row, (1, heads, T, size)."""

    def __init__(self, layout: Layout, prefix: PassCache | None = None) -> None:
        self._layout = layout
        self._prefix = prefix
        self._keys: mx.array | None = None
        self._values: mx.array | None = None

    @property
    def offset(self) -> mx.array:
        """Position of each token, (T,)."""
        return self._layout.positions

    def make_mask(self, num_tokens: int, return_array: bool = False, window_size: int | None = None) -> None:
        """None: who sees whom is decided where the row is taken apart."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keep and return what is given."""
        self._keys, self._values = keys, values
        return keys, values

    def attend(self, queries: mx.array, attention: Callable[..., mx.array]) -> mx.array:
        """Attention (1, H, T, size) of each sequence's tokens to what comes before them in it."""
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
        """Keys and values of each sequence, (B, heads, past + lead + L, size)."""
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
            found.append(rest if shared is None else mx.concatenate([_repeat(shared, len(rest)), rest], axis=2))
        return found[0], found[1]


class Rows:
    """What the blocks' decoding buffers have in common: which rows there are and how long each is.

    Column c of a row holds the key of its token at position c, so a row's new key goes to column *length* and a query sees
    the columns up to its own.
    """

    def __init__(self, num_layers: int) -> None:
        self.lengths: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.columns = 0
        self.layers = [RowCache(self) for _ in range(num_layers)]
        self.positions = mx.zeros((0,), dtype=mx.int32)
        self.places = mx.zeros((0,), dtype=mx.int32)
        self._seen = 0

    def add(self, caches: Sequence[PassCache | PackCache], rows: Sequence[int], lengths: Sequence[int]) -> None:
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


class RowCache:
    """One block's decoding buffers, (B, heads, columns, size)."""

    def __init__(self, rows: Rows) -> None:
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


def _causal(num_queries: int, num_keys: int) -> mx.array:
    """(T, S) to add to scores: the last query sees every key."""
    visible = np.tri(num_queries, num_keys, num_keys - num_queries, dtype=np.bool_)
    return mx.array(np.where(visible, 0.0, HIDDEN_SCORE).astype(np.float32))


def _join(one: mx.array | None, other: mx.array) -> mx.array:
    return other if one is None else mx.concatenate([one, other], axis=2)


def _repeat(one: mx.array, rows: int) -> mx.array:
    return mx.broadcast_to(one, (rows, *one.shape[1:]))


def _widen(array: mx.array, columns: int) -> mx.array:
    missing = columns - array.shape[2]
    return mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)]) if missing > 0 else array
