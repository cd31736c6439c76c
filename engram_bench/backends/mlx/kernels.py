"""Faster kernels for mlx on a CPU, which replace functions that the model code of mlx-lm calls.

mlx 0.32 computes ``exp`` on x86 one number at a time, 12 ns each. In a small model on two cores, ``silu`` and softmax then
take as long as the matrix products. Here ``exp`` is arithmetic that mlx compiles into one vectorised loop, 1.5 ns a number,
with the accuracy of float32. Attention also works on a packed batch
(:class:`engram_bench.backends.mlx.packed.PackedKVCache`).

The code of a model stays the same: functions of mlx-lm that call ``swiglu`` or ``scaled_dot_product_attention`` get copies
that find the replacements of this module. Other code in the process keeps mlx-lm's functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import mlx.core as mx
from mlx import nn

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
"""ln 2 as a sum of two parts; a small integer times the first part is exact in float32."""
ROUND = 12582912.0
"""1.5 · 2²³. A float32 plus this constant is rounded to an integer, which then occupies the low bits."""
COEFFICIENTS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""Coefficients of the polynomial for eʳ, highest power first (Cephes ``expf``)."""
SMALLEST = -87.0
"""Smallest argument of :func:`exp`; lower ones are raised to it, since e⁻⁸⁷ is near the smallest normal float32."""
HIDDEN_SCORE = -1e9
"""Score of a hidden key. The score is finite, so that a padding row that sees nothing is not NaN."""


def exp(x: mx.array) -> mx.array:
    """The exponential of float32 *x* up to 88, relative error below 2e-7; 1.6e-38 below -87.

    Source: Cephes ``expf`` (Moshier), as in most vector libraries: 2ⁿ eʳ with n an integer and abs(r) at most ln 2 / 2.
    """
    return _scaled(*_reduced(x))


@partial(mx.compile, shapeless=True)
def _reduced(x: mx.array) -> tuple[mx.array, mx.array]:
    """A number whose low bits hold n, and eʳ."""
    x = mx.maximum(x, SMALLEST)
    shifted = x * LOG2_E + ROUND
    n = shifted - ROUND
    r = x - n * LN2_HIGH - n * LN2_LOW
    series = COEFFICIENTS[0] * r + COEFFICIENTS[1]
    for coefficient in COEFFICIENTS[2:]:
        series = series * r + coefficient
    return shifted, series * r * r + r + 1.0


def _scaled(shifted: mx.array, power: mx.array) -> mx.array:
    """The product eʳ · 2ⁿ, made by adding n to the exponent bits."""
    bits = _add_exponent(mx.view(shifted, mx.int32), mx.view(power, mx.int32))
    return mx.view(bits, mx.float32)


@partial(mx.compile, shapeless=True)
def _add_exponent(shifted: mx.array, power: mx.array) -> mx.array:
    return (shifted << 23) + power


# ── gated activation ────────────────────────────────────────────────────────────────────────────


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """The product silu(gate) · x, as ``mlx_lm.models.activations.swiglu`` computes it."""
    product: mx.array = _gated(gate, x)[0]
    return product


@mx.custom_function  # type: ignore[untyped-decorator]
def _gated(gate: mx.array, x: mx.array) -> tuple[mx.array, mx.array]:
    """The product silu(gate) · x, and sigmoid(gate), which the gradient needs."""
    product, sigmoid = _product(gate, x, exp(-gate))
    return product, sigmoid


@_gated.vjp  # type: ignore[untyped-decorator]
def _gated_vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
    return _product_gradients(*primals, outputs[1], cotangents[0])


@partial(mx.compile, shapeless=True)
def _product(gate: mx.array, x: mx.array, inverse: mx.array) -> tuple[mx.array, mx.array]:
    sigmoid = 1.0 / (1.0 + inverse)
    return gate * sigmoid * x, sigmoid


@partial(mx.compile, shapeless=True)
def _product_gradients(
    gate: mx.array, x: mx.array, sigmoid: mx.array, cotangent: mx.array
) -> tuple[mx.array, mx.array]:
    by_x = cotangent * sigmoid
    return by_x * x * (1.0 + gate * (1.0 - sigmoid)), by_x * gate


# ── loss ────────────────────────────────────────────────────────────────────────────────────────


@mx.custom_function  # type: ignore[untyped-decorator]
def cross_entropy(logits: mx.array, labels: mx.array) -> mx.array:
    """Losses (nats) of *labels* (N,) under float32 *logits* (N, V), (N,)."""
    largest = mx.max(logits, axis=-1, keepdims=True)
    total = mx.log(mx.sum(exp(logits - largest), axis=-1)) + largest[:, 0]
    losses: mx.array = total - mx.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return losses


@cross_entropy.vjp  # type: ignore[untyped-decorator]
def _cross_entropy_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
    logits, labels = primals
    weights = cotangent[:, None]  # (N, 1)
    share = softmax(logits) * weights
    taken = mx.take_along_axis(share, labels[:, None], axis=-1) - weights
    return mx.put_along_axis(share, labels[:, None], taken, axis=-1), mx.zeros_like(labels)


# ── attention ───────────────────────────────────────────────────────────────────────────────────


def scaled_dot_product_attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    cache: Any,
    scale: float,
    mask: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    """Attention (B, heads, T, size), as ``mlx_lm.models.base.scaled_dot_product_attention`` for keys that are not quantized.

    A cache with an ``attend`` method computes the attention itself.
    """
    if sinks is not None:
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask, sinks=sinks)
    if hasattr(cache, "attend"):
        return cache.attend(queries, partial(attention, scale=scale))
    return attention(queries, keys, values, _additive(mask, queries.shape[2], keys.shape[2]), scale=scale)


def attention(queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | None, *, scale: float) -> mx.array:
    """Attention softmax(scale · q kᵀ + mask) v, (B, H, T, size).

    Args:
        queries: Queries of H heads, (B, H, T, size).
        keys: Keys of G groups of heads, (B, G, S, size).
        values: Values of G groups of heads, (B, G, S, size).
        mask: Numbers to add to the scores (B, G, H / G, T, S), or None.
        scale: Factor of the scores.
    """
    B, H, T, size = queries.shape
    G, S = keys.shape[1], keys.shape[2]
    grouped = (queries * scale).reshape(B, G, H // G * T, size)
    scores = (grouped @ keys.swapaxes(-1, -2)).reshape(B, G, H // G, T, S)
    if mask is not None:
        scores = scores + mask
    weights = softmax(scores).reshape(B, G, H // G * T, S)
    return (weights @ values).reshape(B, H, T, values.shape[-1])


@mx.custom_function  # type: ignore[untyped-decorator]
def softmax(scores: mx.array) -> mx.array:
    """Softmax of float32 *scores* over the last axis. Scores more than 87 below the largest count as 87 below."""
    powers = exp(scores - mx.max(scores, axis=-1, keepdims=True))
    return powers * (1.0 / mx.sum(powers, axis=-1, keepdims=True))


@softmax.vjp  # type: ignore[untyped-decorator]
def _softmax_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
    product = cotangent * output
    return product - output * mx.sum(product, axis=-1, keepdims=True)


def _additive(mask: mx.array | str | None, num_queries: int, num_keys: int) -> mx.array | None:
    """A mask of mlx-lm as numbers to add to scores (B, G, H / G, T, S)."""
    if mask is None:
        return None
    if isinstance(mask, str):  # "causal": the last query sees every key
        past = num_keys - num_queries
        return _hide(mx.arange(past, num_keys)[:, None] >= mx.arange(num_keys)[None])
    numbers = _hide(mask) if mask.dtype == mx.bool_ else mask
    return numbers[:, :, None] if numbers.ndim == 4 else numbers


def _hide(visible: mx.array) -> mx.array:
    return mx.where(visible, 0.0, HIDDEN_SCORE)


class PositionedRope:
    """Rotary embedding of a model that also takes one position per token of a packed row."""

    def __init__(self, rope: nn.Module) -> None:
        self._rope = rope

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        """Rotated queries or keys, (B, H, T, size).

        Args:
            x: Queries or keys, (B, H, T, size).
            offset: First position, one for all rows or one per row; or the positions (T,) of a single packed row.
        """
        if isinstance(offset, mx.array) and offset.ndim == 1 and len(offset) != len(x):
            return self._rope(x.swapaxes(0, 2), offset=offset).swapaxes(0, 2)  # one token a row: (T, H, 1, size)
        return self._rope(x, offset=offset)


# ── installation in a model ─────────────────────────────────────────────────────────────────────

REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "swiglu": swiglu,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
"""Replacements by the name under which mlx-lm calls them."""


def install(module: nn.Module) -> bool:
    """Let *module* compute with the functions of :data:`REPLACEMENTS`; True if its attention does so now.

    Each part whose class calls one of these functions becomes an instance of a subclass. The subclass has a copy of
    ``__call__`` whose global names are the replacements.
    """
    has_attention = False
    for _, part in module.named_modules():
        if isinstance(part.get("rope"), nn.Module):
            part.rope = PositionedRope(part.rope)
        call = type(part).__call__
        if not isinstance(call, FunctionType):
            continue
        names = [name for name in REPLACEMENTS if name in call.__code__.co_names and name in call.__globals__]
        if names:
            part.__class__ = _with_replacements(type(part), tuple(names))
        has_attention |= "scaled_dot_product_attention" in names
    return has_attention


def _with_replacements(kind: type, names: tuple[str, ...]) -> type:
    call: Any = kind.__call__
    space = call.__globals__ | {name: REPLACEMENTS[name] for name in names}
    copied = FunctionType(call.__code__, space, call.__name__, call.__defaults__, call.__closure__)
    copied.__kwdefaults__ = call.__kwdefaults__
    return type(kind.__name__, (kind,), {"__call__": copied, "__module__": kind.__module__})
