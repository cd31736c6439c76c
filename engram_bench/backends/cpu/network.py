"""A causal language model as this backend needs it: logits after chosen tokens, and losses with their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from engram_bench.backends.adapter_files import Floats, read_config
from engram_bench.backends.adapter_layout import Shapes
from engram_bench.backends.cpu.cache import PackCache, RowCache
from engram_bench.backends.cpu.lora import Lora
from engram_bench.backends.cpu.products import fastest
from engram_bench.backends.packing import Integers, TokenBatch
from engram_bench.errors import AdapterError, BackendError

Cache = PackCache | RowCache
Writes = Callable[[int, Tensor], Tensor]
"""What a memory does in one pass: ``writes(block, hidden)`` is the hidden states (M, H) that go into a block."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Places where the tuned model should go on as the bare one does."""

    rows: Integers
    """(N,) of the flattened batch."""
    taught: Tensor
    """(N, …) what :meth:`Learner.teach` gave there."""
    scale: float
    """Weight of each in the loss."""


class Learner(Protocol):
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

    def teach(self, batch: TokenBatch, rows: Integers) -> Tensor:
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
        cache: Cache | None = None,
        writes: Writes | None = None,
    ) -> Tensor:
        """Logits (N, V) after the tokens at *rows* of the flattened batch, without gradients."""

    def learner(self, lora: Lora, products: torch.dtype) -> Learner:
        """What trains *lora* here; the factors of large products are cast to *products* where the network can."""

    def spare_memory(self, spares: bool) -> None:
        """Whether to do without what only speeds up answers; it is given back at once."""

    def merged(self, lora: Lora) -> Network:
        """A network with the adapter in its weights; what is not adapted is shared with this one."""


def open_network(folder: Path, *, device: str, dtype: torch.dtype, lean: bool, presort: bool = True) -> Network:
    """The model of a Hugging Face *folder*: our own passes if *lean* and they cover its architecture, else transformers'.

    Our own keep a copy of the weights in the order of the fastest products if *presort*.

    Raises:
        BackendError: Nothing here can compute it.
    """
    try:
        config = read_config(folder / "config.json")
    except AdapterError as error:
        raise BackendError(str(error)) from error
    from engram_bench.backends.cpu.llama import LlamaNetwork
    from engram_bench.backends.cpu.llama_files import fits

    if lean and dtype == torch.float32 and fits(config):
        return LlamaNetwork(folder, config, device=device, multiply=fastest(device) if presort else functional.linear)
    from engram_bench.backends.cpu.general import TransformersNetwork

    return TransformersNetwork(folder, config, device=device, dtype=dtype)
