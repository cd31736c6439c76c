"""Training of a LoRA with torch: passes over examples, their gradients, and one optimizer for all values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engram_bench.adapters.files import Floats
from engram_bench.backends.common.packing import Integers, TokenBatch, group, pack, pad
from engram_bench.backends.common.training_plan import ADAM_BETAS
from engram_bench.backends.common.training_state import State
from engram_bench.backends.torch.dropout import Dropout
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Anchor, Network, Writes
from engram_bench.models.encoding import Encoded
from engram_bench.records import Recipe

PASS_TOKENS = 512
"""Most tokens of a training or recall pass. Larger passes take more memory (1.5 MB a token for the default model) and
are no faster."""
EPSILON = 1e-8


class Companion(Protocol):
    """A memory that takes part in the training of a LoRA. Examples are given by index."""

    def begin(self) -> None:
        """Drop the passes of the last step, before a step starts or is repeated."""

    def writes(self, batch: TokenBatch, members: Sequence[int], step: int | None) -> Writes | None:
        """Changes of the memory in a pass over these examples; *step* is None outside a training step."""

    def learn(self) -> None:
        """Move the memory by the gradients of the step's passes."""

    def state(self) -> dict[str, Tensor]:
        """All tensors of the memory that training changes, by name."""


class TorchLearner:
    """Training state of a LoRA, and of a memory beside it.

    Args:
        network: Frozen model.
        lora: Adapter, whose values change in place.
        examples: Examples to learn, followed by the ordinary prompts.
        recipe: Settings of the optimizer and of the adapter's files.
        packing: Whether many examples share one row; otherwise batches are padded.
        pad_id: Token id that fills padded batches.
        products: Data type of the factors in training's large matrix products.
        companion: Memory that writes into the passes over examples, if any.
    """

    def __init__(
        self,
        network: Network,
        lora: Lora,
        examples: Sequence[Encoded],
        recipe: Recipe,
        *,
        packing: bool = True,
        pad_id: int = 0,
        products: torch.dtype = torch.float32,
        companion: Companion | None = None,
    ) -> None:
        self._network = network
        self._lora = lora
        self._examples = examples
        self._recipe = recipe
        self._packing = packing
        self._pad_id = pad_id
        self._companion = companion
        self._gradient = lora.require_gradients()
        self._adapter_gradients = network.gradients(lora, products)
        self._optimizer = Adam(lora.values, lora.spread(1.0, recipe.loraplus_lr_ratio), recipe.weight_decay)
        self._references: dict[int, Tensor] = {}

    def passes(self, members: Sequence[int], max_tokens: int) -> list[list[int]]:
        """The members of each pass. A pass has at most *max_tokens* tokens, or a single longer example."""
        inputs = [self._examples[i].ids[:-1] for i in members]
        groups = group(inputs, max_tokens=max_tokens, packed=self._packing)
        return [[members[index] for index in indices] for indices in groups]

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def keep_references(self, ordinary: Sequence[int]) -> None:
        """Store the bare model's values for the answers of these ordinary prompts, in one pass, before training starts."""
        states = iter(self._adapter_gradients.reference(*self._batch(ordinary)))
        for index in ordinary:
            self._references[index] = torch.stack(list(islice(states, len(self._examples[index].labels))))

    def begin(self) -> None:
        """Clear the gradients, before a step starts or is repeated."""
        self._gradient = self._lora.require_gradients()
        if self._companion is not None:
            self._companion.begin()

    def accumulate(
        self, learned: Sequence[int], ordinary: Sequence[int], *, scale: float, anchor_scale: float, step: int
    ) -> tuple[Floats, int]:
        """Losses (nats) of the answer tokens of *learned*, in order, and the number of tokens in this one pass."""
        tokens, rows = self._batch([*learned, *ordinary])
        labels = self._labels(learned)
        anchor = None
        if ordinary:
            anchor = Anchor(rows[len(labels) :], torch.cat([self._references[i] for i in ordinary]), anchor_scale)
        writes = _writes(self._companion, tokens, learned, step)
        if rate := self._recipe.lora_dropout:
            self._lora.dropout = Dropout.of(
                tokens, rate, seed=self._recipe.seed, step=step, device=self._network.device
            )
        try:
            losses = self._adapter_gradients.loss_and_gradients(
                tokens, rows[: len(labels)], labels, scale, anchor, writes=writes
            )
        finally:
            self._lora.dropout = None
        return losses[: len(labels)], tokens.num_tokens

    def gradient_norm(self) -> float:
        """Euclidean norm of the gradients of all values together."""
        return float(torch.linalg.vector_norm(self._gradient))

    def move(self, learning_rate: float, clip: float) -> None:
        """Take one optimizer step with *clip* times the gradients."""
        self._optimizer.step(self._gradient.mul_(clip), learning_rate)
        if self._companion is not None:
            self._companion.learn()
        self._lora.version += 1

    # ── recall ──────────────────────────────────────────────────────────────────────────────────

    def losses(self, members: Sequence[int]) -> Floats:
        """Losses (nats) of the answer tokens of these examples, in order, in one pass."""
        tokens, rows = self._batch(members)
        writes = _writes(self._companion, tokens, members)
        return self._adapter_gradients.losses(tokens, rows, self._labels(members), writes=writes)

    def guesses(self, members: Sequence[int]) -> Integers:
        """The likeliest token at the position of every answer token, with adapter and memory as they will answer."""
        return self.guesses_of(members, self._lora, self._companion)

    def guesses_of(self, members: Sequence[int], lora: Lora | None, companion: Companion | None) -> Integers:
        """The likeliest token at the position of every answer token, with this adapter and this memory; None is neither."""
        tokens, rows = self._batch(members)
        logits = self._network.logits(tokens, rows, lora=lora, writes=_writes(companion, tokens, members))
        found: Integers = logits.argmax(-1).cpu().numpy()
        return found

    def _batch(self, members: Sequence[int]) -> tuple[TokenBatch, Integers]:
        """Input tokens, and the rows that predict answer tokens."""
        examples = [self._examples[i] for i in members]
        sequences = [example.ids[:-1] for example in examples]
        tokens = pack(sequences) if self._packing else pad(sequences, pad_id=self._pad_id)
        pairs = zip(tokens.paths, examples, strict=True)
        return tokens, np.concatenate([path[example.answer_start - 1 :] for path, example in pairs])

    def _labels(self, members: Sequence[int]) -> Integers:
        return np.array([label for i in members for label in self._examples[i].labels], dtype=np.int64)

    # ── files ───────────────────────────────────────────────────────────────────────────────────

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter into *folder* in PEFT's layout, with *base* as the name of the base model."""
        self._lora.save(folder, self._recipe, base=base)

    def state(self) -> State:
        """All values that a step changes, by name."""
        return {name: tensor.cpu().numpy() for name, tensor in self._tensors().items()}

    def resume(self, state: State) -> None:
        """Restore the values of an earlier :meth:`state`."""
        for name, target in self._tensors().items():
            target.copy_(torch.tensor(state[name]))
        self._lora.version += 1

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"values": self._lora.values, **self._optimizer.state()}
        return tensors | (self._companion.state() if self._companion is not None else {})


def _writes(
    companion: Companion | None, tokens: TokenBatch, members: Sequence[int], step: int | None = None
) -> Writes | None:
    return companion.writes(tokens, members, step) if companion is not None else None


class Adam:
    """AdamW on one vector, where each value has its own factor of the learning rate.

    Source: Loshchilov & Hutter (2019), Decoupled Weight Decay Regularization, arXiv 1711.05101.
    """

    def __init__(self, values: Tensor, shares: Tensor, weight_decay: float) -> None:
        self._values = values
        self._shares = shares
        self._weight_decay = weight_decay
        self._mean = torch.zeros_like(values)
        self._square = torch.zeros_like(values)
        self._updates = torch.zeros((), dtype=torch.int64)

    def state(self) -> dict[str, Tensor]:
        """All tensors that a step changes beside the values, by name."""
        return {"mean": self._mean, "square": self._square, "updates": self._updates}

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Take one step against *gradient*."""
        self._updates += 1
        updates = int(self._updates)
        beta_mean, beta_square = ADAM_BETAS
        self._mean.lerp_(gradient, 1 - beta_mean)
        self._square.mul_(beta_square).addcmul_(gradient, gradient, value=1 - beta_square)
        scale = (self._square / (1 - beta_square**updates)).sqrt_().add_(EPSILON)
        move = (self._mean / scale).div_(1 - beta_mean**updates).add_(self._values, alpha=self._weight_decay)
        self._values.addcmul_(move, self._shares, value=-learning_rate)
