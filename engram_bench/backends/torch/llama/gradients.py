"""Losses and adapter gradients of a Llama-shaped model, with a backward pass that needs no graph.

Names: ``d_x`` is the gradient of the loss with respect to ``x``; M = B · T tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engram_bench.adapters.files import Floats
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.torch.llama.attention import plan_spans
from engram_bench.backends.torch.llama.blocks import TrainableBlocks, TrainingPass
from engram_bench.backends.torch.llama.network import LlamaNetwork, prepare_updates
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Anchor, Writes
from engram_bench.backends.torch.products import Product

KEPT_TOKENS = 1024
"""Longest pass whose activations are all kept; a longer pass keeps only the inputs of each block and computes the rest again.

Activations take 0.6 MB a token and 1 KB a pair of tokens.
"""


class TrainableLlama(LlamaNetwork):
    """A Llama-shaped model whose backward pass is written out."""

    def gradients(self, lora: Lora, products: torch.dtype) -> LlamaGradients:
        """Losses and gradients of *lora* here, the factors of large matrix products cast to *products*."""
        return LlamaGradients(self, lora, products)


class LlamaGradients:
    """Losses and gradients of one adapter on one network.

    Args:
        network: Frozen network.
        lora: Adapter whose gradients are filled; ``Lora.require_gradients`` must have been called.
        dtype: Data type of the factors in large matrix products; all other values are float32.
    """

    def __init__(self, network: LlamaNetwork, lora: Lora, dtype: torch.dtype) -> None:
        self._network = network
        self._lora = lora
        self._dtype = dtype
        self._blocks = TrainableBlocks(network, lora, dtype)
        self._head = Product.of(network.head, dtype, presort=network.presorts)

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
        """Losses (nats) of *labels* after *rows*, then the divergences of the anchor, in one vector.

        The gradients are added to the adapter's. Trained values inside *writes* get their gradients as well.
        """
        with torch.no_grad():
            run = self._begin(batch, rows if anchor is None else np.concatenate([rows, anchor.rows]))
            x, kept, written = self._embed(batch), [], {}
            for index in range(len(self._blocks)):
                before = x
                x = writes(index, x) if writes is not None else x
                if x is not before:
                    written[index] = before
                inputs = x
                x, saved = self._blocks.forward(x, index, run)
                kept.append(saved if batch.num_tokens <= KEPT_TOKENS else inputs)
            losses, d_x = self._losses(x, run, labels, scale, anchor)
            for index in reversed(range(len(self._blocks))):
                last = kept.pop()
                saved = self._blocks.forward(last, index, run)[1] if isinstance(last, Tensor) else last
                d_x = self._blocks.backward(d_x, index, run, saved, needs_input=index > 0 or 0 in written)
                if writes is not None and index in written:
                    d_x = _written_backward(d_x, writes, index, written[index])
        return losses

    def losses(self, batch: TokenBatch, rows: Integers, labels: Integers, *, writes: Writes | None = None) -> Floats:
        """Losses (nats) of *labels* after *rows*, (N,), without gradients."""
        with torch.no_grad():
            run = self._begin(batch, rows)
            return self._losses(self._last(batch, run, writes), run, labels, scale=None)[0]

    def reference(self, batch: TokenBatch, rows: Integers) -> Tensor:
        """Last hidden states of the bare model at *rows*, (N, E).

        The head turns them into logits, which would take a hundred times the space.
        """
        with torch.no_grad():
            run = self._begin(batch, rows, adapted=False)
            return self._blocks.norm(self._last(batch, run), self._network.final_norm)[0][run.index_in_kept]

    def _last(self, batch: TokenBatch, run: TrainingPass, writes: Writes | None = None) -> Tensor:
        """Output of the last block, (kept, E)."""
        x = self._embed(batch)
        for index in range(len(self._blocks)):
            x, _ = self._blocks.forward(writes(index, x) if writes is not None else x, index, run)
        return x

    def _begin(self, batch: TokenBatch, rows: Integers, *, adapted: bool = True) -> TrainingPass:
        network, num_blocks = self._network, len(self._blocks)
        kept, index_in_kept = np.unique(rows, return_inverse=True)
        return TrainingPass(
            updates=prepare_updates(network.layers(), self._lora, num_blocks, self._dtype)
            if adapted
            else [{}] * num_blocks,
            dropout=self._lora.dropout if adapted else None,
            rope=network.rope(batch),
            spans=plan_spans(batch, network.device),
            shape=(batch.ids.shape[0], batch.ids.shape[1]),
            kept=torch.from_numpy(kept).to(network.device),
            index_in_kept=torch.from_numpy(index_in_kept).to(network.device),
        )

    def _embed(self, batch: TokenBatch) -> Tensor:
        return self._network.embedding[torch.from_numpy(batch.ids).to(self._network.device).flatten()]  # (M, E)

    def _losses(
        self, x: Tensor, run: TrainingPass, labels: Integers, scale: float | None, anchor: Anchor | None = None
    ) -> tuple[Floats, Tensor]:
        """Losses (N,) of *labels*, then the anchor's divergences; and the gradient of the objective with respect to *x*.

        The objective is *scale* · the sum of the losses + the anchor's scale · the sum of its divergences.
        Where *scale* is None, *x* is returned in place of a gradient.
        """
        normed, factor = self._blocks.norm(x, self._network.final_norm)
        log_probs = torch.log_softmax(self._head.forward(normed).float(), -1)  # (kept, V)
        answers, held = run.index_in_kept[: len(labels)], run.index_in_kept[len(labels) :]
        chosen = (answers, torch.from_numpy(labels).to(x.device))
        losses: Floats = -log_probs[chosen].numpy(force=True)
        if scale is None:
            return losses, x
        weight = torch.bincount(answers, minlength=len(x)).float() * scale  # number of labels at each token
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
        return losses, self._blocks.norm_backward(d_normed, x, factor, self._network.final_norm)


def _written_backward(d_x: Tensor, writes: Writes, index: int, hidden: Tensor) -> Tensor:
    """Gradient with respect to *hidden*, from which *writes* made the input of the block. Only this part uses autograd."""
    with torch.enable_grad():
        leaf = hidden.detach().requires_grad_()
        torch.autograd.backward(writes(index, leaf), d_x)
    assert leaf.grad is not None
    return leaf.grad
