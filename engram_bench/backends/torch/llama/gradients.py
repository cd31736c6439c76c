"""Losses and adapter gradients of a Llama-shaped model, the backward pass written out: no graph, no base-weight gradients.

Names: ``d_x`` is the gradient of the loss with respect to ``x``; M = B · T tokens, H query heads of size D, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.adapters.files import Floats
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.torch.llama.attention import Span, attend, attend_backward, plan_spans
from engram_bench.backends.torch.llama.network import GroupUpdate, LlamaNetwork, join_heads, prepare_updates, rotate
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Anchor, Writes
from engram_bench.backends.torch.operators import silu_backward
from engram_bench.backends.torch.products import Product

KEPT_TOKENS = 1024
"""Longer passes keep only what goes into each block and compute it again: 0.6 MB a token and 1 KB a pair are too much."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """What every block of one pass needs."""

    updates: Sequence[Mapping[str, GroupUpdate]]
    rope: tuple[Tensor, Tensor]
    spans: Sequence[Span]
    shape: tuple[int, int]
    """(B, T)."""
    kept: Tensor
    """The tokens whose logits are asked for, ascending: all that the last block computes after attention."""
    place: Tensor
    """(N,) index into *kept* of each row asked for."""


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


class TrainableLlama(LlamaNetwork):
    """A Llama-shaped model whose backward pass is written out."""

    def gradients(self, lora: Lora, products: torch.dtype) -> LlamaGradients:
        """What trains *lora* here, with the factors of large products cast to *products*."""
        return LlamaGradients(self, lora, products)


class LlamaGradients:
    """Gradients of one adapter on one network.

    Args:
        network: Frozen.
        lora: Its ``gradient`` must have been asked for.
        dtype: Of the large products' factors; what is between them is float32.
    """

    def __init__(self, network: LlamaNetwork, lora: Lora, dtype: torch.dtype) -> None:
        self._network = network
        self._lora = lora
        self._dtype = dtype
        frozen = partial(Product.of, dtype=dtype, presort=network.presorts)
        self._products = [
            {group: frozen(weight) for group, weight in block.weights.items()} for block in network.blocks
        ]
        self._head = frozen(network.head)

    def loss_and_gradients(
        self,
        batch: TokenBatch,
        rows: Integers,
        labels: Integers,
        scale: float,
        anchor: Anchor | None = None,
        *,
        writes: Writes | None = None,
    ) -> Floats:
        """The losses (nats) of *labels* after *rows*, then the anchor's; adds their gradients to the adapter's.

        Values that *writes* depends on get theirs as well, where they require them.
        """
        with torch.no_grad():
            run = self._begin(batch, rows if anchor is None else np.concatenate([rows, anchor.rows]))
            x, kept, written = self._embed(batch), [], {}
            for index in range(len(self._products)):
                before = x
                x = writes(index, x) if writes is not None else x
                if x is not before:
                    written[index] = before
                inputs = x
                x, saved = self._forward(x, index, run)
                kept.append(saved if batch.num_tokens <= KEPT_TOKENS else inputs)
            losses, d_x = self._losses(x, run, labels, scale, anchor)
            for index in reversed(range(len(self._products))):
                last = kept.pop()
                saved = self._forward(last, index, run)[1] if isinstance(last, Tensor) else last
                d_x = self._backward(d_x, index, run, saved, needs_input=index > 0 or 0 in written)
                if writes is not None and index in written:
                    d_x = _written_backward(d_x, writes, index, written[index])
        return losses

    def losses(self, batch: TokenBatch, rows: Integers, labels: Integers, *, writes: Writes | None = None) -> Floats:
        """The losses (nats) of *labels* after *rows*."""
        with torch.no_grad():
            run = self._begin(batch, rows)
            return self._losses(self._last(batch, run, writes), run, labels, scale=None)[0]

    def reference(self, batch: TokenBatch, rows: Integers) -> Tensor:
        """(N, E) the bare model's last states at *rows*: the head makes logits of them, in a hundredth of the space."""
        with torch.no_grad():
            run = self._begin(batch, rows, adapted=False)
            return self._norm(self._last(batch, run), self._network.final_norm)[0][run.place]

    def _last(self, batch: TokenBatch, run: _Pass, writes: Writes | None = None) -> Tensor:
        """What comes out of the last block, (kept, E)."""
        x = self._embed(batch)
        for index in range(len(self._products)):
            x, _ = self._forward(writes(index, x) if writes is not None else x, index, run)
        return x

    def _begin(self, batch: TokenBatch, rows: Integers, *, adapted: bool = True) -> _Pass:
        network, num_blocks = self._network, len(self._products)
        kept, place = np.unique(rows, return_inverse=True)
        return _Pass(
            updates=prepare_updates(network.layers(), self._lora, num_blocks, self._dtype)
            if adapted
            else [{}] * num_blocks,
            rope=network.rope(batch),
            spans=plan_spans(batch, network.device),
            shape=(batch.ids.shape[0], batch.ids.shape[1]),
            kept=torch.from_numpy(kept).to(network.device),
            place=torch.from_numpy(place).to(network.device),
        )

    def _embed(self, batch: TokenBatch) -> Tensor:
        return self._network.embedding[torch.from_numpy(batch.ids).to(self._network.device).flatten()]  # (M, E)

    # ── forward ─────────────────────────────────────────────────────────────────────────────────

    def _forward(self, x: Tensor, index: int, run: _Pass) -> tuple[Tensor, _Saved]:
        """The block's output, of the tokens kept only in the last block, and what its backward pass needs."""
        block = self._network.blocks[index]
        normed, scale = self._norm(x, block.attention_norm)
        joint, qkv = self._project(normed, index, run, "qkv")
        query, key, value = self._network.split_heads(joint.float(), run.rope, run.shape)
        heads, attentions = attend(query, key, value, run.spans)
        mixed, x_middle = join_heads(heads), x  # (M, H·D), (M, E)
        if self._is_last(index):
            mixed, x_middle = mixed[run.kept], x[run.kept]
        added, out = self._project(mixed.to(self._dtype), index, run, "out")
        x_middle = x_middle + added
        normed, scale_middle = self._norm(x_middle, block.mlp_norm)
        gate_up_y, gate_up = self._project(normed, index, run, "gate_up")
        gate, up = gate_up_y.chunk(2, -1)
        added, down = self._project(functional.silu(gate) * up, index, run, "down")
        saved = _Saved(
            x, scale, qkv, query, key, value, attentions, out, x_middle, scale_middle, gate_up, gate_up_y, down
        )
        return x_middle + added, saved

    def _norm(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """RMS norm in the products' dtype, and the factor (M, 1) that it multiplied by."""
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self._network.sizes.epsilon)
        return (x * scale * weight).to(self._dtype), scale

    def _project(self, x: Tensor, index: int, run: _Pass, group: str) -> tuple[Tensor, _Factors]:
        """The group's linear layers with their adapters, (M, out), and what the backward pass needs."""
        biases, low = self._network.blocks[index].biases, None
        y = self._products[index][group].forward(x)
        if group in biases:
            y += biases[group].to(y.dtype)
        if update := run.updates[index].get(group):
            low = x @ update.a.T  # (M, Σr)
            y.addmm_(low, update.b.T)
        return y, _Factors(x, low)

    def _losses(
        self, x: Tensor, run: _Pass, labels: Integers, scale: float | None, anchor: Anchor | None = None
    ) -> tuple[Floats, Tensor]:
        """Losses (N,) of *labels*, then those of the anchor, and their gradient with respect to *x*.

        The gradient is that of *scale* · the losses' sum and of the anchor's; *x* itself for None.
        """
        normed, factor = self._norm(x, self._network.final_norm)
        log_probs = torch.log_softmax(self._head.forward(normed).float(), -1)  # (kept, V)
        asked, held = run.place[: len(labels)], run.place[len(labels) :]
        chosen = (asked, torch.from_numpy(labels).to(x.device))
        losses: Floats = -log_probs[chosen].numpy(force=True)
        if scale is None:
            return losses, x
        weight = torch.bincount(asked, minlength=len(x)).float() * scale  # how often each token is asked for
        if anchor is not None:
            bare = torch.log_softmax(self._head.forward(anchor.reference).float(), -1)  # (N, V)
            wanted = bare.exp()
            divergences = (wanted * (bare - log_probs[held])).sum(-1)
            losses = np.concatenate([losses, divergences.numpy(force=True)])
            weight.index_add_(0, held, torch.full_like(divergences, anchor.scale))
        d_logits = log_probs.exp_().mul_(weight[:, None])
        d_logits.index_put_(chosen, torch.tensor(-scale, device=x.device), accumulate=True)
        if anchor is not None:
            d_logits.index_add_(0, held, wanted, alpha=-anchor.scale)
        d_normed = self._head.backward(d_logits.to(self._dtype))
        return losses, self._norm_backward(d_normed, x, factor, self._network.final_norm)

    # ── backward ────────────────────────────────────────────────────────────────────────────────

    def _backward(self, d_x: Tensor, index: int, run: _Pass, saved: _Saved, *, needs_input: bool) -> Tensor:
        """Gradient with respect to the block's input; empty where nobody needs it."""
        block = self._network.blocks[index]
        d_active = self._project_backward(d_x.to(self._dtype), saved.down, index, run, "down")
        gate, up = saved.gate_up_y.chunk(2, -1)
        d_gate = silu_backward(d_active * up, gate)
        d_gate_up = torch.cat([d_gate, d_active.mul_(functional.silu(gate))], -1)
        d_normed = self._project_backward(d_gate_up, saved.gate_up, index, run, "gate_up")
        d_x = d_x + self._norm_backward(d_normed, saved.x_middle, saved.scale_middle, block.mlp_norm)
        d_mixed = self._project_backward(d_x.to(self._dtype), saved.out, index, run, "out").float()
        if self._is_last(index):
            d_mixed, d_x = (_spread(part, run.kept, len(saved.x)) for part in (d_mixed, d_x))
        d_qkv = self._attention_backward(d_mixed, run, saved).to(self._dtype)
        d_normed = self._project_backward(d_qkv, saved.qkv, index, run, "qkv", needs_input=needs_input)
        if not needs_input:
            return d_normed
        return d_x.add_(self._norm_backward(d_normed, saved.x, saved.scale, block.attention_norm))

    def _project_backward(
        self, d_y: Tensor, saved: _Factors, index: int, run: _Pass, group: str, *, needs_input: bool = True
    ) -> Tensor:
        """Gradient with respect to the product's input; the adapters' gradients are added to."""
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
        return d_x.addmm_(d_low, update.a) if needs_input else d_x

    def _attention_backward(self, d_mixed: Tensor, run: _Pass, saved: _Saved) -> Tensor:
        """Gradient with respect to the joint q, k and v (M, (H + 2K)·D)."""
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
    def _norm_backward(d_normed: Tensor, x: Tensor, scale: Tensor, weight: Tensor) -> Tensor:
        """Gradient with respect to the input of an RMS norm, float32."""
        d_unit = d_normed.float() * weight
        unit = x * scale
        return (d_unit - unit * (d_unit * unit).mean(-1, keepdim=True)) * scale

    def _is_last(self, index: int) -> bool:
        return index == len(self._products) - 1


def _written_backward(d_x: Tensor, writes: Writes, index: int, hidden: Tensor) -> Tensor:
    """Gradient with respect to *hidden*, which *writes* made the block's input of: the only part left to autograd."""
    with torch.enable_grad():
        leaf = hidden.detach().requires_grad_()
        torch.autograd.backward(writes(index, leaf), d_x)
    assert leaf.grad is not None
    return leaf.grad


def _spread(rows: Tensor, kept: Tensor, length: int) -> Tensor:
    """*rows* at the places *kept* of *length* rows, the others 0."""
    return rows.new_zeros(length, rows.shape[1]).index_copy_(0, kept, rows)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # Lora.require_gradients gave it one
    return parameter.grad
