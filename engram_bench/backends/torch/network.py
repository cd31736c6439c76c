"""A causal language model as this backend needs it: logits after chosen tokens, and losses with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engram_bench.adapters.files import Floats
from engram_bench.adapters.layout import Shapes
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.torch.kv_cache import DecodingKVCache, PrefillKVCache
from engram_bench.backends.torch.lora import Lora

KVCache = PrefillKVCache | DecodingKVCache
Writes = Callable[[int, Tensor], Tensor]
"""What a memory does in one pass: ``writes(block, hidden)`` is the hidden states (M, H) that go into a block."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Places where the tuned model should go on as the bare one does."""

    rows: Integers
    """(N,) of the flattened batch."""
    reference: Tensor
    """(N, …) what :meth:`AdapterGradients.reference` gave there."""
    scale: float
    """Weight of each in the loss."""


class AdapterGradients(Protocol):
    """Gradients of one adapter."""

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
        """The losses (nats) of *labels* after *rows*, then the anchor's: the KL divergence of tuned from bare.

        Adds to the adapter's gradients those of *scale* · the losses' sum + the anchor's scale · its divergences' sum.
        Values that *writes* depends on get theirs as well, where they require them.
        """

    def reference(self, batch: TokenBatch, rows: Integers) -> Tensor:
        """(N, …) what the bare model makes of the tokens at *rows*, for an :class:`Anchor`."""

    def losses(self, batch: TokenBatch, rows: Integers, labels: Integers, *, writes: Writes | None = None) -> Floats:
        """The losses alone."""


class Network(Protocol):
    """Frozen base weights; an adapter is an argument, so both sides of a comparison share them."""

    device: str
    context_length: int
    shapes: Shapes
    """Module path of every linear layer inside the blocks → (outputs, inputs)."""

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
        """What trains *lora* here; the factors of large products are cast to *products* where the network can."""

    def spare_memory(self, spares: bool) -> None:
        """Whether to do without what only speeds up answers; it is given back at once."""

    def merged(self, lora: Lora) -> Network:
        """A network with the adapter in its weights; what is not adapted is shared with this one."""
