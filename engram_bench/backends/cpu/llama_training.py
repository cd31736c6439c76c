"""Loss and adapter gradients of a Llama-shaped model, the backward pass written out: no graph, no base-weight gradients.

Names: ``d_x`` is the gradient of the loss with respect to ``x``; M = B · T tokens, H query heads, K key heads of size D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.adapter_files import Floats
from engram_bench.backends.cpu.attention import Span, attend, attend_backward, plan_spans
from engram_bench.backends.cpu.llama import Block, LlamaNetwork, Update, join_heads, prepare_updates, rotate
from engram_bench.backends.cpu.lora import Lora
from engram_bench.backends.packing import Integers, TokenBatch


@dataclass(frozen=True, slots=True)
class _Factors:
    """What the backward pass of a product needs."""

    x: Tensor
    """(M, in)."""
    low: Tensor | None
    """x Aᵀ (M, Σr); None where the group is not adapted."""


@dataclass(frozen=True, slots=True)
class _Saved:
    """What a block keeps for its backward pass."""

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


class LlamaLearner:
    """Gradients of one adapter on one network.

    Args:
        network: Frozen.
        lora: Its ``gradient`` must have been asked for.
        dtype: Of the large products' factors; sums inside a product are float32 in any case.
    """

    def __init__(self, network: LlamaNetwork, lora: Lora, dtype: torch.dtype) -> None:
        self._network = network
        self._lora = lora
        self._dtype = dtype
        self._blocks = [
            replace(block, weights={group: weight.to(dtype) for group, weight in block.weights.items()})
            for block in network.blocks
        ]
        self._head = network.head.to(dtype)

    def loss_and_gradients(self, batch: TokenBatch, rows: Integers, labels: Integers, scale: float) -> Floats:
        """The losses (nats) of *labels* after *rows*; adds the gradients of *scale* · their sum to the adapter's."""
        with torch.no_grad():
            updates = prepare_updates(self._network.layers(), self._lora, len(self._blocks), self._dtype)
            rope, spans = self._network.rope(batch), plan_spans(batch, self._network.device)
            num_rows, length = batch.ids.shape
            kept, place = np.unique(rows, return_inverse=True)
            x = self._network.embedding[torch.from_numpy(batch.ids).flatten()]  # (M, E)
            saved = []
            for index, block in enumerate(self._blocks):
                last = torch.from_numpy(kept) if index == len(self._blocks) - 1 else None
                x, memory = self._forward(x, block, updates[index], rope, spans, (num_rows, length), last)
                saved.append(memory)
            losses, d_x = self._head_loss(x, torch.from_numpy(place), torch.from_numpy(labels), scale)
            for index in reversed(range(len(self._blocks))):
                last = torch.from_numpy(kept) if index == len(self._blocks) - 1 else None
                d_x = self._backward(
                    d_x, self._blocks[index], updates[index], rope, spans, saved.pop(), last, index == 0
                )
        return losses

    # ── forward ─────────────────────────────────────────────────────────────────────────────────

    def _forward(
        self,
        x: Tensor,
        block: Block,
        updates: Mapping[str, Update],
        rope: tuple[Tensor, Tensor],
        spans: Sequence[Span],
        shape: tuple[int, int],
        kept: Tensor | None,
    ) -> tuple[Tensor, _Saved]:
        """The block's output, of the tokens *kept* only if given, and what its backward pass needs."""
        normed, scale = self._norm(x, block.attention_norm)
        joint, qkv = self._project(normed, block, updates, "qkv")
        query, key, value = self._network.split_heads(joint.float(), rope, shape)
        heads, attentions = attend(query, key, value, spans)
        mixed, x_middle = join_heads(heads), x  # (M, H·D), (M, E)
        if kept is not None:
            mixed, x_middle = mixed[kept], x[kept]
        added, out = self._project(mixed.to(self._dtype), block, updates, "out")
        x_middle = x_middle + added
        normed, scale_middle = self._norm(x_middle, block.mlp_norm)
        gate_up_y, gate_up = self._project(normed, block, updates, "gate_up")
        gate, up = gate_up_y.chunk(2, -1)
        added, down = self._project(functional.silu(gate) * up, block, updates, "down")
        saved = _Saved(
            x, scale, qkv, query, key, value, attentions, out, x_middle, scale_middle, gate_up, gate_up_y, down
        )
        return x_middle + added, saved

    def _norm(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """RMS norm in the products' dtype, and the factor (M, 1) that it multiplied by."""
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self._network.sizes.epsilon)
        return (x * scale * weight).to(self._dtype), scale

    def _project(self, x: Tensor, block: Block, updates: Mapping[str, Update], group: str) -> tuple[Tensor, _Factors]:
        """The group's linear layers with their adapters, (M, out), and what the backward pass needs."""
        y = functional.linear(x, block.weights[group])
        if group in block.biases:
            y += block.biases[group].to(y.dtype)
        low = None
        if group in updates:
            low = x @ updates[group].a.T  # (M, Σr)
            for _, columns, ranks, b in updates[group].parts:
                y[:, columns].addmm_(low[:, ranks], b.T)
        return y, _Factors(x, low)

    def _head_loss(self, x: Tensor, place: Tensor, labels: Tensor, scale: float) -> tuple[Floats, Tensor]:
        """Losses (N,) at rows *place* of *x*, and the gradient of *scale* · their sum with respect to *x*."""
        normed, factor = self._norm(x, self._network.final_norm)
        log_probs = torch.log_softmax((normed @ self._head.T).float(), -1)  # (kept, V)
        losses: Floats = -log_probs[place, labels].numpy(force=True)
        weight = torch.bincount(place, minlength=len(x)).float() * scale  # how often each row is asked for
        d_logits = log_probs.exp_().mul_(weight[:, None])
        d_logits.index_put_((place, labels), torch.tensor(-scale), accumulate=True)
        d_normed = d_logits.to(self._dtype) @ self._head
        return losses, self._norm_backward(d_normed, x, factor, self._network.final_norm)

    # ── backward ────────────────────────────────────────────────────────────────────────────────

    def _backward(
        self,
        d_x: Tensor,
        block: Block,
        updates: Mapping[str, Update],
        rope: tuple[Tensor, Tensor],
        spans: Sequence[Span],
        saved: _Saved,
        kept: Tensor | None,
        is_first: bool,
    ) -> Tensor:
        """Gradient with respect to the block's input; empty for the first block, where nobody needs it."""
        d_act = self._project_backward(d_x.to(self._dtype), saved.down, block, updates, "down")
        gate, up = saved.gate_up_y.chunk(2, -1)
        d_gate = torch.ops.aten.silu_backward(d_act * up, gate)
        d_gate_up = torch.cat([d_gate, d_act.mul_(functional.silu(gate))], -1)
        d_normed = self._project_backward(d_gate_up, saved.gate_up, block, updates, "gate_up")
        d_x = d_x + self._norm_backward(d_normed, saved.x_middle, saved.scale_middle, block.mlp_norm)
        d_mixed = self._project_backward(d_x.to(self._dtype), saved.out, block, updates, "out").float()
        if kept is not None:
            num_tokens = len(saved.x)
            d_mixed = d_mixed.new_zeros(num_tokens, d_mixed.shape[1]).index_copy_(0, kept, d_mixed)
            d_x = d_x.new_zeros(num_tokens, d_x.shape[1]).index_copy_(0, kept, d_x)
        d_qkv = self._attention_backward(d_mixed, rope, spans, saved).to(self._dtype)
        d_normed = self._project_backward(d_qkv, saved.qkv, block, updates, "qkv", needs_input=not is_first)
        if is_first:
            return d_normed
        return d_x.add_(self._norm_backward(d_normed, saved.x, saved.scale, block.attention_norm))

    def _project_backward(
        self,
        d_y: Tensor,
        saved: _Factors,
        block: Block,
        updates: Mapping[str, Update],
        group: str,
        *,
        needs_input: bool = True,
    ) -> Tensor:
        """Gradient with respect to the product's input; the adapters' gradients are added to."""
        d_x = d_y @ block.weights[group] if needs_input else d_y[:0]
        if group not in updates or saved.low is None:
            return d_x
        update = updates[group]
        d_low = torch.empty_like(saved.low)  # (M, Σr)
        for path, columns, ranks, b in update.parts:
            d_low[:, ranks] = d_y[:, columns] @ b
            d_b = saved.low[:, ranks].T @ d_y[:, columns]  # (r, out): the tall product is slow the other way round
            gradient = self._lora.b[path].grad
            assert gradient is not None
            gradient.add_(d_b.T, alpha=self._lora.scales[path])
        d_a = d_low.T @ saved.x  # (Σr, in)
        for path, _, ranks, _ in update.parts:
            gradient = self._lora.a[path].grad
            assert gradient is not None
            gradient.add_(d_a[ranks])
        return d_x.addmm_(d_low, update.a) if needs_input else d_x

    def _attention_backward(
        self, d_mixed: Tensor, rope: tuple[Tensor, Tensor], spans: Sequence[Span], saved: _Saved
    ) -> Tensor:
        """Gradient with respect to the joint q, k and v (M, (H + 2K)·D)."""
        num_rows, num_kv_heads, group, length, size = saved.query.shape
        d_heads = d_mixed.view(num_rows, length, num_kv_heads, group, size).permute(0, 2, 3, 1, 4)
        d_query, d_key, d_value = attend_backward(d_heads, saved.query, saved.key, saved.value, spans, saved.attentions)
        d_query = join_heads(d_query.mul_(size**-0.5)).view(-1, num_kv_heads * group, size)
        d_key, d_value = (part.transpose(1, 2).reshape(-1, num_kv_heads, size) for part in (d_key, d_value))
        cosine, sine = rope
        d_rotated = rotate(torch.cat([d_query, d_key], 1), cosine, -sine)  # a rotation's transpose turns back
        return torch.cat([d_rotated, d_value], 1).flatten(1)

    @staticmethod
    def _norm_backward(d_normed: Tensor, x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        """Gradient with respect to the input of an RMS norm, float32."""
        d_unit = d_normed.float() * weight
        unit = x * scale
        return (d_unit - unit * (d_unit * unit).mean(-1, keepdim=True)) * scale
