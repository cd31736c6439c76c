"""What a LoRA learns from, with torch: passes over examples, their gradients, and one optimizer for all values."""

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
from engram_bench.backends.common.training_loop import State
from engram_bench.backends.common.training_plan import ADAM_BETAS
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Anchor, Network, Writes
from engram_bench.models.encoding import Encoded
from engram_bench.records import Recipe

PASS_TOKENS = 512
"""Tokens of a training or recall pass: memory grows with them (1.5 MB a token for the default model), speed no more."""
EPSILON = 1e-8


class Companion(Protocol):
    """A memory that is there while a LoRA is trained; examples are meant by their index."""

    def begin(self) -> None:
        """Forget the passes of a step that is begun, or begun again."""

    def writes(self, batch: TokenBatch, members: Sequence[int], step: int | None) -> Writes | None:
        """What it adds to a pass over these examples, in a step or (None) whenever it is asked."""

    def learn(self) -> None:
        """Take over the gradients of the step's passes."""

    def state(self) -> dict[str, Tensor]:
        """Everything of it that training changes, by name."""


class TorchLearner:
    """Moves the values of *lora*, and those of a *companion* that learns.

    Args:
        network: The frozen model.
        lora: Changes in place.
        examples: To be learned, and behind them the ordinary prompts.
        recipe: Of the optimizer and the adapter's files.
        packing: Put many examples into one row (else: padded batches).
        pad_id: Of padded batches.
        products: Of the factors of training's large products.
        companion: Writes into the passes over examples.
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
        """The members of each pass; its tokens are at most *max_tokens*, or one example's."""
        inputs = [self._examples[i].ids[:-1] for i in members]
        groups = group(inputs, max_tokens=max_tokens, packed=self._packing)
        return [[members[place] for place in places] for places in groups]

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def teach(self, ordinary: Sequence[int]) -> None:
        """Remember what the bare model makes of these answers, in one pass; the adapter does nothing yet."""
        states = iter(self._adapter_gradients.reference(*self._batch(ordinary)))
        for index in ordinary:
            self._references[index] = torch.stack(list(islice(states, len(self._examples[index].labels))))

    def begin(self) -> None:
        """Forget the gradients of a step that is begun, or begun again."""
        self._gradient = self._lora.require_gradients()
        if self._companion is not None:
            self._companion.begin()

    def accumulate(
        self, learned: Sequence[int], ordinary: Sequence[int], *, scale: float, anchor_scale: float, step: int
    ) -> tuple[Floats, int]:
        """The losses (nats) of the answer tokens to be learned, in order, and the tokens computed, in one pass."""
        tokens, rows = self._batch([*learned, *ordinary])
        labels = self._labels(learned)
        anchor = None
        if ordinary:
            anchor = Anchor(rows[len(labels) :], torch.cat([self._references[i] for i in ordinary]), anchor_scale)
        writes = _writes(self._companion, tokens, learned, step)
        losses = self._adapter_gradients.loss_and_gradients(
            tokens, rows[: len(labels)], labels, scale, anchor, writes=writes
        )
        return losses[: len(labels)], tokens.num_tokens

    def gradient_norm(self) -> float:
        """Length of the gradients of all values together."""
        return float(torch.linalg.vector_norm(self._gradient))

    def move(self, learning_rate: float, clip: float) -> None:
        """Move the values against *clip* times their gradients."""
        self._optimizer.step(self._gradient.mul_(clip), learning_rate)
        if self._companion is not None:
            self._companion.learn()
        self._lora.version += 1

    # ── what is known ───────────────────────────────────────────────────────────────────────────

    def losses(self, members: Sequence[int]) -> Floats:
        """The losses (nats) of the answer tokens, in order, in one pass."""
        tokens, rows = self._batch(members)
        writes = _writes(self._companion, tokens, members)
        return self._adapter_gradients.losses(tokens, rows, self._labels(members), writes=writes)

    def guesses(self, members: Sequence[int]) -> Integers:
        """The likeliest token in the place of every answer token as the adapter will answer, in one pass."""
        return self.guesses_of(members, self._lora, self._companion)

    def guesses_of(self, members: Sequence[int], lora: Lora | None, companion: Companion | None) -> Integers:
        """The same of these two together; None is silent."""
        tokens, rows = self._batch(members)
        logits = self._network.logits(tokens, rows, lora=lora, writes=_writes(companion, tokens, members))
        found: Integers = logits.argmax(-1).cpu().numpy()
        return found

    def _batch(self, members: Sequence[int]) -> tuple[TokenBatch, Integers]:
        """Input tokens, and the places that predict answer tokens."""
        examples = [self._examples[i] for i in members]
        sequences = [example.ids[:-1] for example in examples]
        tokens = pack(sequences) if self._packing else pad(sequences, pad_id=self._pad_id)
        places = zip(tokens.paths, examples, strict=True)
        return tokens, np.concatenate([path[example.answer_start - 1 :] for path, example in places])

    def _labels(self, members: Sequence[int]) -> Integers:
        return np.array([label for i in members for label in self._examples[i].labels], dtype=np.int64)

    # ── files ───────────────────────────────────────────────────────────────────────────────────

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter into *folder* in PEFT's layout; *base* is the model's name in it."""
        self._lora.save(folder, self._recipe, base=base)

    def state(self) -> State:
        """What a step changes, by name."""
        return {name: tensor.cpu().numpy() for name, tensor in self._tensors().items()}

    def resume(self, state: State) -> None:
        """Take up where :meth:`state` was asked for."""
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
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on one vector, each value with its share of the learning rate."""

    def __init__(self, values: Tensor, shares: Tensor, weight_decay: float) -> None:
        self._values = values
        self._shares = shares
        self._weight_decay = weight_decay
        self._mean = torch.zeros_like(values)
        self._square = torch.zeros_like(values)
        self._updates = torch.zeros((), dtype=torch.int64)

    def state(self) -> dict[str, Tensor]:
        """What a step changes beside the values, by name."""
        return {"mean": self._mean, "square": self._square, "updates": self._updates}

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Move the values against *gradient*."""
        self._updates += 1
        updates = int(self._updates)
        beta_mean, beta_square = ADAM_BETAS
        self._mean.lerp_(gradient, 1 - beta_mean)
        self._square.mul_(beta_square).addcmul_(gradient, gradient, value=1 - beta_square)
        scale = (self._square / (1 - beta_square**updates)).sqrt_().add_(EPSILON)
        move = (self._mean / scale).div_(1 - beta_mean**updates).add_(self._values, alpha=self._weight_decay)
        self._values.addcmul_(move, self._shares, value=-learning_rate)
