"""Blocks of a Llama-shaped model, forward and backward: no graph, no gradients of frozen weights.

Names: ``d_x`` is the gradient of the loss with respect to ``x``; M = B · T tokens, E hidden size, H query heads of size D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.torch.dropout import Dropout
from engram_bench.backends.torch.llama.attention import Span, attend, attend_backward
from engram_bench.backends.torch.llama.network import GroupUpdate, LlamaNetwork, join_heads, rotate
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.operators import silu_backward
from engram_bench.backends.torch.products import Product


@dataclass(frozen=True, slots=True)
class TrainingPass:
    """Inputs that all blocks of one pass have in common."""

    updates: Sequence[Mapping[str, GroupUpdate]]
    dropout: Dropout | None
    """What is left out of the adapter's inputs; None outside of training steps with dropout."""
    rope: tuple[Tensor, Tensor]
    spans: Sequence[Span]
    shape: tuple[int, int]
    """Rows and columns of the batch, (B, T)."""
    kept: Tensor
    """Tokens whose logits are needed, ascending; the last block computes no others after attention."""
    index_in_kept: Tensor
    """Index into *kept* of each requested row, (N,)."""


@dataclass(frozen=True, slots=True)
class _Factors:
    """Values that the backward pass of a product needs."""

    x: Tensor
    """Inputs of the adapter, (M, in)."""
    low: Tensor | None
    """Product x Aᵀ, (M, Σr); None where the group has no adapter."""
    factor: Tensor | None = None
    """Factor of each input of the adapter, (M, in), with dropout."""


@dataclass(frozen=True, slots=True)
class BlockActivations:
    """Activations that a block keeps for its backward pass."""

    x: Tensor
    scale: Tensor
    qkv: _Factors
    query: Tensor
    key: Tensor
    value: Tensor
    attentions: list[Tensor]
    out: _Factors
    x_middle: Tensor
    scale_middle: Tensor
    gate_up: _Factors
    gate_up_y: Tensor
    down: _Factors


class TrainableBlocks:
    """The blocks of one network with one adapter, forward and backward.

    Args:
        network: Frozen network.
        lora: Adapter whose gradients are filled; ``Lora.require_gradients`` must have been called.
        dtype: Data type of the factors in large matrix products; all other values are float32.
    """

    def __init__(self, network: LlamaNetwork, lora: Lora, dtype: torch.dtype) -> None:
        self._network = network
        self._lora = lora
        self._dtype = dtype
        frozen = partial(Product.of, dtype=dtype, presort=network.presorts)
        self._products = [
            {group: frozen(weight) for group, weight in block.weights.items()} for block in network.blocks
        ]

    def __len__(self) -> int:
        return len(self._products)

    # ── forward ─────────────────────────────────────────────────────────────────────────────────

    def forward(self, x: Tensor, index: int, run: TrainingPass) -> tuple[Tensor, BlockActivations]:
        """Output of block *index* (M, E), and the activations that :meth:`backward` needs.

        The last block returns the kept tokens only, (kept, E).
        """
        block = self._network.blocks[index]
        normed, scale = self.norm(x, block.attention_norm)
        joint, qkv = self._project(normed, index, run, "qkv")
        query, key, value = self._network.split_heads(joint.float(), run.rope, run.shape)
        heads, attentions = attend(query, key, value, run.spans)
        mixed, x_middle = join_heads(heads), x  # (M, H·D), (M, E)
        if self._is_last(index):
            mixed, x_middle = mixed[run.kept], x[run.kept]
        added, out = self._project(mixed.to(self._dtype), index, run, "out")
        x_middle = x_middle + added
        normed, scale_middle = self.norm(x_middle, block.mlp_norm)
        gate_up_y, gate_up = self._project(normed, index, run, "gate_up")
        gate, up = gate_up_y.chunk(2, -1)
        added, down = self._project(functional.silu(gate) * up, index, run, "down")
        saved = BlockActivations(
            x, scale, qkv, query, key, value, attentions, out, x_middle, scale_middle, gate_up, gate_up_y, down
        )
        return x_middle + added, saved

    def norm(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """RMS norm in the data type of the products, and the factor (M, 1) by which each token was multiplied."""
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self._network.sizes.epsilon)
        return (x * scale * weight).to(self._dtype), scale

    def _project(self, x: Tensor, index: int, run: TrainingPass, group: str) -> tuple[Tensor, _Factors]:
        """Outputs of the group's linear layers with their adapters, (M, out), and what the backward pass needs."""
        biases, low = self._network.blocks[index].biases, None
        y = self._products[index][group].forward(x)
        if group in biases:
            y += biases[group].to(y.dtype)
        factor = None
        if update := run.updates[index].get(group):
            if run.dropout is not None:
                rows = run.kept if self._is_last(index) and group != "qkv" else None
                factor = run.dropout.factor(update.parts[0][0], x.shape[1], rows).to(x.dtype)
                x = x * factor
            low = x @ update.a.T  # (M, Σr)
            y.addmm_(low, update.b.T)
        return y, _Factors(x, low, factor)

    # ── backward ────────────────────────────────────────────────────────────────────────────────

    def backward(
        self, d_x: Tensor, index: int, run: TrainingPass, saved: BlockActivations, *, needs_input: bool
    ) -> Tensor:
        """Gradient with respect to the input of block *index*; an empty tensor if not *needs_input*.

        The gradients of the adapter in this block are added to the adapter's.
        """
        block = self._network.blocks[index]
        d_active = self._project_backward(d_x.to(self._dtype), saved.down, index, run, "down")
        gate, up = saved.gate_up_y.chunk(2, -1)
        d_gate = silu_backward(d_active * up, gate)
        d_gate_up = torch.cat([d_gate, d_active.mul_(functional.silu(gate))], -1)
        d_normed = self._project_backward(d_gate_up, saved.gate_up, index, run, "gate_up")
        d_x = d_x + self.norm_backward(d_normed, saved.x_middle, saved.scale_middle, block.mlp_norm)
        d_mixed = self._project_backward(d_x.to(self._dtype), saved.out, index, run, "out").float()
        if self._is_last(index):
            d_mixed, d_x = (_spread(part, run.kept, len(saved.x)) for part in (d_mixed, d_x))
        d_qkv = self._attention_backward(d_mixed, run, saved).to(self._dtype)
        d_normed = self._project_backward(d_qkv, saved.qkv, index, run, "qkv", needs_input=needs_input)
        if not needs_input:
            return d_normed
        return d_x.add_(self.norm_backward(d_normed, saved.x, saved.scale, block.attention_norm))

    def _project_backward(
        self, d_y: Tensor, saved: _Factors, index: int, run: TrainingPass, group: str, *, needs_input: bool = True
    ) -> Tensor:
        """Gradient with respect to the input of the product; the adapters' own gradients grow."""
        d_x = self._products[index][group].backward(d_y) if needs_input else d_y[:0]
        if saved.low is None:
            return d_x
        update = run.updates[index][group]
        d_low = d_y @ update.b  # (M, Σr)
        d_a = d_low.T @ saved.x  # (Σr, in)
        d_b = saved.low.T @ d_y  # (Σr, out): the tall product is slow the other way round
        for path, columns, ranks in update.parts:
            _gradient(self._lora.a[path]).add_(d_a[ranks])
            _gradient(self._lora.b[path]).add_(d_b[ranks, columns].T, alpha=self._lora.scales[path])
        if not needs_input:
            return d_x
        if saved.factor is not None:
            return d_x.addcmul_(d_low @ update.a, saved.factor)
        return d_x.addmm_(d_low, update.a)

    def _attention_backward(self, d_mixed: Tensor, run: TrainingPass, saved: BlockActivations) -> Tensor:
        """Gradient with respect to q, k and v in one matrix, (M, (H + 2K)·D)."""
        num_rows, num_kv_heads, group, length, size = saved.query.shape
        d_heads = d_mixed.view(num_rows, length, num_kv_heads, group, size).permute(0, 2, 3, 1, 4)
        d_query, d_key, d_value = attend_backward(
            d_heads, saved.query, saved.key, saved.value, run.spans, saved.attentions
        )
        d_query = join_heads(d_query.mul_(size**-0.5)).view(-1, num_kv_heads * group, size)
        d_key, d_value = (part.transpose(1, 2).reshape(-1, num_kv_heads, size) for part in (d_key, d_value))
        cosine, sine = run.rope
        d_rotated = rotate(torch.cat([d_query, d_key], 1), cosine, -sine)  # a rotation's transpose turns back
        return torch.cat([d_rotated, d_value], 1).flatten(1)

    @staticmethod
    def norm_backward(d_normed: Tensor, x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        """Gradient with respect to the input of an RMS norm, in float32."""
        d_unit = d_normed.float() * weight
        unit = x * scale
        return (d_unit - unit * (d_unit * unit).mean(-1, keepdim=True)) * scale

    def _is_last(self, index: int) -> bool:
        return index == len(self._products) - 1


def _spread(rows: Tensor, kept: Tensor, length: int) -> Tensor:
    """A matrix of *length* rows that holds *rows* at the indices *kept* and 0 elsewhere."""
    return rows.new_zeros(length, rows.shape[1]).index_copy_(0, kept, rows)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # Lora.require_gradients gave it one
    return parameter.grad
