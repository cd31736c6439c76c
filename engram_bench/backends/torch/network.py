"""Protocols of a causal language model in torch: logits after chosen tokens, and losses with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engram_bench.adapters.files import Floats
from engram_bench.adapters.targets import Shapes
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.torch.kv_cache import DecodingKVCache, PrefillKVCache
from engram_bench.backends.torch.lora import Lora

KVCache = PrefillKVCache | DecodingKVCache
Writes = Callable[[int, Tensor], Tensor]
"""Changes that a memory makes in one pass: ``writes(block, hidden)`` gives the hidden states (M, H) that enter a block."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Positions where the tuned model should continue like the bare model."""

    rows: Integers
    """Indices of the positions in the flattened batch, (N,)."""
    reference: Tensor
    """Values of :meth:`AdapterGradients.reference` at these positions, (N, …)."""
    scale: float
    """Weight of each position in the loss."""


class AdapterGradients(Protocol):
    """Losses and gradients of one adapter."""

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
        """Losses of *labels* after *rows* and divergences of the anchor, in nats, in one vector.

        The gradients of *scale* · sum of the losses + the anchor's scale · sum of its divergences are added to the
        adapter's. Trained values inside *writes* get their gradients as well.

        Args:
            batch: Tokens of the pass.
            rows: Indices (N,) in the flattened batch whose next tokens are *labels*.
            labels: Token ids (N,).
            scale: Weight of each loss.
            anchor: Positions whose divergence KL(bare, tuned) counts as well.
            writes: Changes of a memory in this pass.
        """

    def reference(self, batch: TokenBatch, rows: Integers) -> Tensor:
        """Values of the bare model at *rows* for an :class:`Anchor`, (N, …)."""

    def losses(self, batch: TokenBatch, rows: Integers, labels: Integers, *, writes: Writes | None = None) -> Floats:
        """Losses (nats) of *labels* after *rows*, (N,), without gradients."""


class Network(Protocol):
    """Frozen base weights. The adapter is an argument, so both sides of a comparison share the weights."""

    device: str
    context_length: int
    shapes: Shapes
    """Shape (outputs, inputs) of every linear layer inside the blocks, by module path."""

    def logits(
        self,
        batch: TokenBatch,
        rows: Integers,
        *,
        lora: Lora | None,
        cache: KVCache | None = None,
        writes: Writes | None = None,
    ) -> Tensor:
        """Logits (N, V) after the tokens at *rows* of the flattened batch, without gradients."""

    def gradients(self, lora: Lora, products: torch.dtype) -> AdapterGradients:
        """Losses and gradients of *lora* here, the factors of large matrix products cast to *products* where possible."""

    def spare_memory(self, spares: bool) -> None:
        """Whether to work without copies that only speed up answers; existing copies are freed at once."""

    def merged(self, lora: Lora) -> Network:
        """A network with the adapter merged into its weights; weights without an adapter are shared with this network."""
