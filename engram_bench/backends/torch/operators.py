"""Operators of torch that have no public name, each with the public computation it stands for.

A version of torch may lack one or take other arguments, and a processor may refuse one: each is tried once and compared with the
public computation, which is used instead where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.machine.capabilities import Capability, find
from engram_bench.backends.machine.timing import shortest_s

TYPICAL_ROWS = 512
"""Number of rows that the order of presorted weights is chosen for; other numbers lose nothing that was measured."""
WORTHWHILE = 1.3
"""Speed of bfloat16 products over float32 ones from which they are used. With bfloat16 instructions 1.7 to 7 was measured,
without them 0.01 to 0.9."""


def presorts(dtype: torch.dtype) -> Capability:
    """Whether oneDNN multiplies by weights of *dtype* that were brought into its own order before."""
    return find(f"presort-{str(dtype).removeprefix('torch.')}", lambda: _try_presorted(dtype))


def reorder(weight: Tensor) -> Tensor:
    """A copy of *weight* (out, in) in oneDNN's order, for :func:`multiply_reordered`."""
    copied: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, TYPICAL_ROWS)
    return copied


def multiply_reordered(x: Tensor, reordered: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x Wᵀ + b of x (M, in), a reordered W (out, in) and b (out,)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, reordered, bias, "none", [], "")
    return product


def short_products() -> Capability:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones, by :data:`WORTHWHILE` or more."""
    return find("short-products", _try_short_products)


def backward_operators() -> tuple[Capability, ...]:
    """Whether torch has the operators of the backward pass that :func:`silu_backward` and :func:`softmax_backward` call."""
    return find("silu-backward", _try_silu_backward), find("softmax-backward", _try_softmax_backward)


def silu_backward(d_y: Tensor, x: Tensor) -> Tensor:
    """Gradient of SiLU, y = x · σ(x), with respect to x."""
    if find("silu-backward", _try_silu_backward).is_there:
        gradient: Tensor = torch.ops.aten.silu_backward(d_y, x)
        return gradient
    return _plain_silu_backward(d_y, x)


def softmax_backward(d_y: Tensor, y: Tensor) -> Tensor:
    """Gradient of y = softmax(x) over the last dimension with respect to x, in float32."""
    if find("softmax-backward", _try_softmax_backward).is_there:
        return torch._softmax_backward_data(d_y, y, -1, torch.float32)
    return _plain_softmax_backward(d_y, y)


def difference(found: Tensor, expected: Tensor) -> str:
    """What is wrong with the values *found*; empty where they are the expected ones to about their precision."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"the result is {found.dtype} {tuple(found.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
    tolerance = 0.02 if found.dtype == torch.bfloat16 else 1e-5
    worst = float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
    return "" if worst <= tolerance else f"the result is off by {worst:.3g} of its largest value"


def _try_presorted(dtype: torch.dtype) -> str:
    weight, x = (_sample(rows, 48).to(dtype) for rows in (80, 16))
    found = multiply_reordered(x, reorder(weight))
    return difference(found, functional.linear(x.float(), weight.float()).to(dtype))


def _try_short_products() -> str:
    """Why bfloat16 products are not worth while: they are slow here.

    The rows grow while bfloat16 keeps up, so that a processor that takes a hundred times as long is found out in milliseconds.
    """
    weight = _sample(576, 576)
    exact, short = _product(weight), _product(weight.bfloat16())
    for rows in (8, 64, TYPICAL_ROWS):
        x = _sample(rows, 576)
        ratio = shortest_s(partial(exact, x)) / shortest_s(partial(short, x.bfloat16()))
        if ratio < 0.25:
            break
    return "" if ratio >= WORTHWHILE else f"bfloat16 products have {ratio:.2f} times the speed of float32 ones"


def _product(weight: Tensor) -> Callable[[Tensor], Tensor]:
    if presorts(weight.dtype).is_there:
        reordered = reorder(weight)
        return lambda x: multiply_reordered(x, reordered)
    return lambda x: functional.linear(x, weight)


def _try_silu_backward() -> str:
    d_y, x = _sample(4, 8), _sample(8, 4).T
    return difference(torch.ops.aten.silu_backward(d_y, x), _plain_silu_backward(d_y, x))


def _plain_silu_backward(d_y: Tensor, x: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(x)
    return d_y * sigmoid * (1 + x * (1 - sigmoid))


def _try_softmax_backward() -> str:
    d_y, y = _sample(4, 8), torch.softmax(_sample(8, 4).T, -1)
    return difference(torch._softmax_backward_data(d_y, y, -1, torch.float32), _plain_softmax_backward(d_y, y))


def _plain_softmax_backward(d_y: Tensor, y: Tensor) -> Tensor:
    weighted = d_y * y
    return weighted - y * weighted.sum(-1, keepdim=True)


def _sample(rows: int, columns: int) -> Tensor:
    """A (rows, columns) matrix of values within ±1, the same at every call; the state of torch's generator stays."""
    return torch.sin(torch.arange(rows * columns, dtype=torch.float32).view(rows, columns) * 0.7)
