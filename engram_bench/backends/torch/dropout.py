"""Dropout of an adapter's inputs, decided by what a token is and not by where it lies in a batch.

Whether a value is left out follows from the seed, the step, the tokens up to this one, the block and the group of layers with
the same input. Therefore packed and padded batches, split passes and every network drop the same values, and a training that
goes on drops what it would have dropped. Layers of one group share their input and what is left out of it; PEFT draws for each
layer.

Source: Srivastava et al. (2014), Dropout, J. Mach. Learn. Res. 15, 1929-1958; in LoRA, ``lora_dropout`` of PEFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.torch.llama.files import GROUPS

_GROUP_OF = {path.rpartition(".")[2]: group for group, paths in GROUPS.items() for path in paths}
_PRIME = 0x100000001B3  # of the 64-bit FNV hash
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Dropout:
    """What is left out of the adapter's inputs in one pass over M tokens."""

    rate: float
    """Share of values that are left out; the others are multiplied by 1 / (1 - rate)."""
    keys: Tensor
    """A number for each token, (M,), int64."""

    @classmethod
    def of(cls, batch: TokenBatch, rate: float, *, seed: int, step: int, device: str) -> Dropout:
        """What is left out of *batch* in a *step* of the training with this *seed*."""
        start = crc32(f"{seed}/{step}".encode())
        return cls(rate, torch.from_numpy(_keys(batch, start)).to(device))

    def factor(self, layer: str, width: int, rows: Tensor | None = None) -> Tensor:
        """Factors (M, width) of the inputs of a *layer*, which is a module path; of some *rows* alone if given."""
        block, _, name = layer.rpartition(".")
        block = next((part for part in block.split(".") if part.isdigit()), "")
        salt = crc32(f"{block}/{_GROUP_OF.get(name, name)}".encode())
        keys = (self.keys if rows is None else self.keys[rows]) + (salt << 20)
        columns = torch.arange(width, device=keys.device) * 0x9E3779B1
        mixed = _mix(_mix(keys)[:, None] + columns)
        is_kept = (mixed & 0xFFFFFF) >= int(self.rate * (1 << 24))
        return is_kept.float().mul_(1 / (1 - self.rate))


def _mix(values: Tensor) -> Tensor:
    """Numbers of 32 bits that look random and depend on all bits of *values*, 64-bit integers.

    Source: the finalizer of MurmurHash3, https://github.com/aappleby/smhasher.
    """
    values = (values ^ (values >> 32)) & 0xFFFFFFFF
    values = ((values ^ (values >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    values = ((values ^ (values >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return values ^ (values >> 16)


def _keys(batch: TokenBatch, start: int) -> Integers:
    """A number for each token that depends on *start* and the tokens up to it; padding has 0."""
    keys, ids = np.zeros(batch.ids.size, dtype=np.int64), batch.ids.reshape(-1)
    for path in batch.paths:
        value = start
        for index in path.tolist():
            value = ((value ^ (int(ids[index]) + 1)) * _PRIME) & _WORD
            keys[index] = value >> 1  # fits a signed number
    return keys
