"""Keys and values of tokens that went through a model: of a pack while it is read, of rows while they are decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PrefillKVCache:
    """Keeps the keys and values of one forward pass, per block (B, H, P + T, D); *prefix* is shared by all of it."""

    def __init__(self, prefix: PrefillKVCache | None = None) -> None:
        self._prefix = prefix
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.written: list[Tensor] = []
        """What a memory with a convolution wrote, per block it writes before (B, 1, P + T, H)."""

    @property
    def length(self) -> int:
        """Tokens per row; 0 before the pass."""
        return self.keys[0].shape[2] if self.keys else 0

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values the pass's tokens may look at. The signature is that of transformers' ``Cache``."""
        if self._prefix is not None:
            key, value = _after(self._prefix.keys[layer_idx], key), _after(self._prefix.values[layer_idx], value)
        self.keys.append(key)
        self.values.append(value)
        return key, value

    def write(self, written: Tensor, index: int) -> Tensor:
        """All that a memory's *index*-th layer wrote before and with the pass's tokens."""
        self.written.append(written if self._prefix is None else _after(self._prefix.written[index], written))
        return self.written[index]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this pass (asked by some transformers models)."""
        return self._prefix.length if self._prefix is not None else 0


class DecodingKVCache:
    """Keys and values of rows being decoded, each row dense from 0 on, in buffers that grow when a longer row comes.

    Row i of a step is row i of the buffers; :meth:`move` keeps the rows in use at the front.
    """

    def __init__(self) -> None:
        self._keys: list[Tensor] = []  # per block (R, H, S, D)
        self._values: list[Tensor] = []
        self._written: list[Tensor] = []
        self._lengths = torch.zeros(0, dtype=torch.long)
        self._longest = 0

    def reserve(self, like: PrefillKVCache, rows: int, length: int) -> None:
        """Make room for *rows* rows of *length* tokens, keeping what the first of them hold.

        Longer rows take the room of rows that are no longer needed: many short ones and later some long ones never have a
        place for as many long ones.
        """
        old = self._keys[0].shape if self._keys else (0, 0, 0, 0)
        if rows <= old[0] and length <= old[2]:
            return
        length = max(length, old[2])
        rows = max(rows, old[0] * old[2] // length)
        kept = min(rows, old[0])
        for buffers, examples in self._pairs(like):
            for layer, example in enumerate(examples):
                _, heads, _, size = example.shape
                grown = example.new_zeros(rows, heads, length, size)
                if old[0]:
                    grown[:kept, :, : old[2]] = buffers[layer][:kept]
                    buffers[layer] = grown
                else:
                    buffers.append(grown)

    def fill(self, first_row: int, source: PrefillKVCache, places: Sequence[NDArray[np.int64]]) -> None:
        """Copy into rows *first_row* … the tokens at *places* of the flattened (B · (P + T)) *source*, one row each."""
        longest = max(map(len, places))
        padded = np.zeros((len(places), longest), dtype=np.int64)
        for row, place in enumerate(places):
            padded[row, : len(place)] = place
        index = torch.from_numpy(padded).to(source.keys[0].device)  # (rows, longest)
        rows = slice(first_row, first_row + len(places))
        for buffers, tensors in self._pairs(source):
            for buffer, tensor in zip(buffers, tensors, strict=True):
                flat = tensor.transpose(0, 1).flatten(1, 2)  # (H, B·(P+T), D)
                buffer[rows, :, :longest] = flat[:, index].transpose(0, 1)

    def begin_step(self, lengths: Tensor) -> None:
        """Say how many tokens each row (R',) has; the next pass adds one to each."""
        self._lengths = lengths
        self._longest = int(lengths.max()) + 1

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Store one new token per row; all keys and values of the rows, (R', H, longest, D)."""
        return self._stored(self._keys[layer_idx], key), self._stored(self._values[layer_idx], value)

    def write(self, written: Tensor, index: int) -> Tensor:
        """Store what a memory's *index*-th layer wrote, (R', 1, 1, H); all of the rows, (R', 1, longest, H)."""
        return self._stored(self._written[index], written)

    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy rows *source* over rows *target*."""
        for buffer in (*self._keys, *self._values, *self._written):
            buffer[list(target), :, : self._longest] = buffer[list(source), :, : self._longest]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this step in the longest row (asked by some transformers models)."""
        return self._longest - 1

    def _pairs(self, other: PrefillKVCache) -> list[tuple[list[Tensor], list[Tensor]]]:
        return [(self._keys, other.keys), (self._values, other.values), (self._written, other.written)]

    def _stored(self, buffer: Tensor, new: Tensor) -> Tensor:
        rows = torch.arange(len(self._lengths), device=new.device)
        buffer[rows, :, self._lengths] = new[:, :, 0]
        return buffer[: len(rows), :, : self._longest]


def _after(prefix: Tensor, new: Tensor) -> Tensor:
    """*new* (B, H, T, D) behind the prefix (1, H, P, D) in every row."""
    return torch.cat([prefix.expand(new.shape[0], -1, -1, -1), new], dim=2)
