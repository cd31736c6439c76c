"""KV caches: keys and values of tokens that went through a model, in a prefill pass and while rows are decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PrefillKVCache:
    """Keys and values of one prefill pass, per block (B, H, P + T, D).

    Args:
        prefix: Cache of P tokens that precede every row of the pass.
    """

    def __init__(self, prefix: PrefillKVCache | None = None) -> None:
        self._prefix = prefix
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.written: list[Tensor] = []
        """Values that a memory with a convolution wrote, one tensor (B, 1, P + T, H) per layer of the memory."""

    @property
    def length(self) -> int:
        """Tokens per row; 0 before the pass."""
        return self.keys[0].shape[2] if self.keys else 0

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values that tokens of the pass may see. The signature is that of transformers' ``Cache``."""
        if self._prefix is not None:
            key, value = _after(self._prefix.keys[layer_idx], key), _after(self._prefix.values[layer_idx], value)
        self.keys.append(key)
        self.values.append(value)
        return key, value

    def write(self, written: Tensor, index: int) -> Tensor:
        """All values that layer *index* of a memory wrote for the prefix and for tokens of the pass."""
        self.written.append(written if self._prefix is None else _after(self._prefix.written[index], written))
        return self.written[index]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens before this pass, which some models of transformers ask for."""
        return self._prefix.length if self._prefix is not None else 0


class DecodingKVCache:
    """Keys and values of rows that are decoded, in buffers that grow when a longer row comes.

    Each row fills its buffer from column 0. Row i of a step is row i of the buffers; :meth:`move` keeps used rows in front.
    """

    def __init__(self) -> None:
        self._keys: list[Tensor] = []  # per block (R, H, S, D)
        self._values: list[Tensor] = []
        self._written: list[Tensor] = []
        self._lengths = torch.zeros(0, dtype=torch.long)
        self._longest = 0

    def reserve(self, like: PrefillKVCache, rows: int, length: int) -> None:
        """Make room for *rows* rows of *length* tokens; the content of existing rows stays.

        Longer rows take the room of rows that are no longer needed. Therefore many short rows followed by a few long ones
        never allocate room for as many long ones.
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

    def fill(self, first_row: int, source: PrefillKVCache, indices: Sequence[NDArray[np.int64]]) -> None:
        """Copy keys and values into rows from *first_row* on; each element of *indices* fills one row.

        The indices point into the flattened (B · (P + T)) tokens of *source*.
        """
        longest = max(map(len, indices))
        padded = np.zeros((len(indices), longest), dtype=np.int64)
        for row, found in enumerate(indices):
            padded[row, : len(found)] = found
        index = torch.from_numpy(padded).to(source.keys[0].device)  # (rows, longest)
        rows = slice(first_row, first_row + len(indices))
        for buffers, tensors in self._pairs(source):
            for buffer, tensor in zip(buffers, tensors, strict=True):
                flat = tensor.transpose(0, 1).flatten(1, 2)  # (H, B·(P+T), D)
                buffer[rows, :, :longest] = flat[:, index].transpose(0, 1)

    def begin_step(self, lengths: Tensor) -> None:
        """Set the number of tokens in each row, (R',); the next pass adds one token to each row."""
        self._lengths = lengths
        self._longest = int(lengths.max()) + 1

    def update(self, key: Tensor, value: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values of the rows, (R', H, longest, D), after one new token per row is stored."""
        return self._stored(self._keys[layer_idx], key), self._stored(self._values[layer_idx], value)

    def write(self, written: Tensor, index: int) -> Tensor:
        """All values of the rows, (R', 1, longest, H), after new ones (R', 1, 1, H) of memory layer *index* are stored."""
        return self._stored(self._written[index], written)

    def move(self, source: Sequence[int], target: Sequence[int]) -> None:
        """Copy rows *source* over rows *target*."""
        for buffer in (*self._keys, *self._values, *self._written):
            buffer[list(target), :, : self._longest] = buffer[list(source), :, : self._longest]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens in the longest row before this step, which some models of transformers ask for."""
        return self._longest - 1

    def _pairs(self, other: PrefillKVCache) -> list[tuple[list[Tensor], list[Tensor]]]:
        return [(self._keys, other.keys), (self._values, other.values), (self._written, other.written)]

    def _stored(self, buffer: Tensor, new: Tensor) -> Tensor:
        rows = torch.arange(len(self._lengths), device=new.device)
        buffer[rows, :, self._lengths] = new[:, :, 0]
        return buffer[: len(rows), :, : self._longest]


def _after(prefix: Tensor, new: Tensor) -> Tensor:
    """The prefix (1, H, P, D) in front of every row of *new* (B, H, T, D)."""
    return torch.cat([prefix.expand(new.shape[0], -1, -1, -1), new], dim=2)
