"""Products with frozen float32 weights by oneDNN, from a copy of the weights in its own order.

torch gives such products to MKL, which reorders the weights in every call: with the few rows of a decoding step that takes
longer than the product. GFLOP/s of one core, AMD EPYC, 16 / 64 / 512 rows: 576 to 3072 features 42 / 68 / 85 by MKL and
78 / 97 / 101 by oneDNN, the head 32 / 50 and 79 / 88.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from engram_bench.backends.torch.operators import multiply_reordered, presorts, reorder

Multiply = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""x Wᵀ + b of x (M, in), W (out, in) and b (out,), as ``functional.linear``."""


@dataclass(frozen=True, slots=True)
class Product:
    """Products with a frozen weight W (out, in), both ways."""

    forward: Callable[[Tensor], Tensor]
    """x Wᵀ of x (M, in)."""
    backward: Callable[[Tensor], Tensor]
    """d_y W of d_y (M, out)."""

    @classmethod
    def of(cls, weight: Tensor, dtype: torch.dtype, *, presort: bool = True) -> Product:
        """Products with factors in *dtype*.

        With *presort*, bfloat16 weights on a processor are kept as two copies in oneDNN's order, where oneDNN can.
        """
        weight = weight.to(dtype)
        if presort and dtype == torch.bfloat16 and weight.device.type == "cpu" and presorts(dtype).is_there:
            return cls(_sorted(weight), _sorted(weight.T.contiguous()))
        return cls(lambda x: functional.linear(x, weight), lambda d_y: d_y @ weight)


def _sorted(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return partial(multiply_reordered, reordered=reorder(weight))


def fastest(device: str) -> Multiply:
    """How weights that stay as they are should be multiplied on *device*."""
    return Presorted() if device == "cpu" and presorts(torch.float32).is_there else functional.linear


class Presorted:
    """Multiplies with copies of the weights, each made at its first product and dropped with the weight."""

    def __init__(self) -> None:
        self._copies = WeakTensorKeyDictionary()
        self._spares = False

    def spare_memory(self, spares: bool) -> None:
        """Whether to multiply without copies; those made are dropped."""
        self._spares = spares
        self._copies = WeakTensorKeyDictionary()

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The product, in float32; by torch's own way where a gradient is asked for or memory is short."""
        if x.requires_grad or self._spares:
            return functional.linear(x, weight, bias)
        if weight not in self._copies:
            self._copies[weight] = reorder(weight)
        return multiply_reordered(x, self._copies[weight], bias)
