"""Training a LoRA: answer-only loss, seeded batches, stop by recall, resumable at any checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engram_bench.backends.cpu.lora import Lora
from engram_bench.backends.cpu.network import Anchor, Network, Writes
from engram_bench.backends.curriculum import HOPELESS_LOSS, KNOWN_LOSS, Curriculum
from engram_bench.backends.halving import halving
from engram_bench.backends.packing import Integers, TokenBatch, group, pack, pad
from engram_bench.backends.protocol import Progress
from engram_bench.backends.replay import replayed
from engram_bench.backends.training_plan import (
    ADAM_BETAS,
    Encoded,
    checkpoint_steps,
    learning_rate_at,
)
from engram_bench.errors import BackendError
from engram_bench.records import Recipe

STATE_FILE = "training_state.safetensors"
STATE_EVERY_S = 15.0
"""Seconds between resumable states."""
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


@dataclass(slots=True)
class Trained:
    """What a training did, beside the adapter's values."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    recall: float | None = None
    checkpoints: list[str] = field(default_factory=list)
    finished: bool = False


class Trainer:
    """One training run of *lora* on *network*."""

    def __init__(
        self,
        network: Network,
        lora: Lora,
        examples: Sequence[Encoded],
        recipe: Recipe,
        *,
        required: Sequence[int] = (),
        ordinary: Sequence[Encoded] = (),
        packing: bool = True,
        curriculum: bool = True,
        pad_id: int = 0,
        max_batch_tokens: int = 8192,
        products: torch.dtype = torch.float32,
        companion: Companion | None = None,
    ) -> None:
        self._network = network
        self._companion = companion
        self._lora = lora
        self._every = [*examples, *ordinary]
        self._num_learned = len(examples)
        """Of *every*, the first ones; the others are ordinary prompts."""
        self._recipe = recipe
        self._packing = packing
        self._pad_id = pad_id
        self._pass_tokens = min(PASS_TOKENS, max_batch_tokens)
        lora.require_gradients()
        self._taught: dict[int, Tensor] = {}
        self._learner = network.learner(lora, products)
        self._curriculum = Curriculum(len(examples), recipe, required=required, prefers_unknown=curriculum)
        self._optimizer = Adam(lora.values, lora.spread(1.0, recipe.loraplus_lr_ratio), recipe.weight_decay)
        self.done = Trained()

    def run(self, folder: Path, *, progress: Progress, base: str, identity: str) -> Trained:
        """Train to the end, going on from a state of the same *identity* in *folder*; the adapter is saved there.

        Raises:
            BackendError: The loss or a gradient is not finite.
        """
        self._taught = self._teach()
        self._resume(folder / STATE_FILE, identity)
        recipe, done, checkpoints = self._recipe, self.done, checkpoint_steps(self._recipe)
        started = last_saved = time.perf_counter() - done.seconds
        while len(done.losses) < recipe.steps and not done.finished:
            done.losses.append(self._step(len(done.losses)))
            done.seconds = time.perf_counter() - started
            self._report(progress)
            self._look(self._curriculum.stale())
            if self._curriculum.should_check(len(done.losses)):
                done.recall = self._curriculum.check(len(done.losses), self._recalled)
                done.finished = done.recall is not None
            if name := checkpoints.get(len(done.losses)):
                self._save_checkpoint(folder, name, base)
            if time.perf_counter() - last_saved > STATE_EVERY_S:
                self._save_state(folder / STATE_FILE, identity)
                last_saved = time.perf_counter()
        if recipe.steps and not done.finished:
            done.recall = float(self._recalled(range(self._num_learned)).mean())
        done.seconds = time.perf_counter() - started
        self._lora.save(folder, recipe, base=base)
        (folder / STATE_FILE).unlink(missing_ok=True)
        return done

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def _step(self, step: int) -> float:
        """Mean loss (nats per answer token) of the batch, after which the adapter has moved."""
        ordinary = replayed(step, self._recipe, len(self._every) - self._num_learned)
        loss = self._gradients([*self._curriculum.batch(step), *(self._num_learned + i for i in ordinary)], step)
        gradient = self._lora.gradient
        assert gradient is not None
        norm = float(torch.linalg.vector_norm(gradient))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            msg = (
                f"training: step {step + 1} has loss {loss} and gradient norm {norm}, expected finite values; "
                f"try a learning rate below {self._recipe.learning_rate:g}"
            )
            raise BackendError(msg)
        if norm > self._recipe.max_grad_norm > 0:
            gradient.mul_(self._recipe.max_grad_norm / norm)
        self._optimizer.step(gradient, learning_rate_at(step, self._recipe) * self._curriculum.pace)
        if self._companion is not None:
            self._companion.learn()
        self._lora.version += 1
        return loss

    def _gradients(self, indices: Sequence[int], step: int) -> float:
        """Mean loss of a batch; its gradients are in the adapter. In passes of half the size once memory ran out.

        Raises:
            BackendError: Memory ran out twice in this step.
        """
        lengths = [len(self._every[i].ids) for i in indices]
        bound = min(self._pass_tokens, sum(lengths))
        doing = f"training {len(indices)} examples of up to {max(lengths)} tokens"
        loss, fitted = halving(lambda max_tokens: self._accumulate(indices, max_tokens, step), bound, doing=doing)
        if fitted < bound:
            self._pass_tokens = fitted
        return loss

    def _accumulate(self, indices: Sequence[int], max_tokens: int, step: int) -> float:
        self._lora.require_gradients()
        if self._companion is not None:
            self._companion.begin()
        num_labels, num_held = (sum(len(self._every[i].labels) for i in part) for part in self._parted(indices))
        total, num_tokens = 0.0, 0
        for members in self._groups(indices, max_tokens):
            learned, held = self._parted(members)
            tokens, rows, labels, starts = self._batch([*learned, *held])
            anchor = None
            if held:
                taught = torch.cat([self._taught[i] for i in held])
                anchor = Anchor(rows[len(labels) :], taught, self._recipe.replay_weight / num_held)
            losses = self._learner.loss_and_gradients(
                tokens,
                rows[: len(labels)],
                labels,
                1 / num_labels,
                anchor,
                writes=self._writes(tokens, learned, step),
            )
            self._curriculum.note(learned, _worst(losses[: len(labels)], starts))
            num_tokens += tokens.num_tokens
            total += float(losses[: len(labels)].sum())
        self.done.tokens += num_tokens
        return total / num_labels

    def _writes(self, tokens: TokenBatch, members: Sequence[int], step: int | None = None) -> Writes | None:
        return self._companion.writes(tokens, members, step) if self._companion is not None else None

    def _teach(self) -> dict[int, Tensor]:
        """What the bare model makes of every ordinary prompt's answer."""
        taught: dict[int, Tensor] = {}
        for members in self._groups(range(self._num_learned, len(self._every)), self._pass_tokens):
            tokens, rows, _, _ = self._batch(members)
            states = iter(self._learner.teach(tokens, rows))
            taught |= {i: torch.stack(list(islice(states, len(self._every[i].labels)))) for i in members}
        return taught

    def _parted(self, indices: Sequence[int]) -> tuple[list[int], list[int]]:
        """What is to be learned, and ordinary prompts."""
        return [i for i in indices if i < self._num_learned], [i for i in indices if i >= self._num_learned]

    def _groups(self, indices: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Those of *indices* that go through the model together."""
        inputs = [self._every[i].ids[:-1] for i in indices]
        return [
            [indices[place] for place in places]
            for places in group(inputs, max_tokens=max_tokens, packed=self._packing)
        ]

    def _batch(self, indices: Sequence[int]) -> tuple[TokenBatch, Integers, Integers, Integers]:
        """Input tokens, places that predict answer tokens, those tokens, and where each example's start.

        Ordinary prompts, which come last in *indices*, have places and no tokens.
        """
        examples = [self._every[i] for i in indices]
        sequences = [example.ids[:-1] for example in examples]
        tokens = pack(sequences) if self._packing else pad(sequences, pad_id=self._pad_id)
        rows = np.concatenate(
            [path[example.answer_start - 1 :] for path, example in zip(tokens.paths, examples, strict=True)]
        )
        learned = [self._every[i] for i in self._parted(indices)[0]]
        labels = np.array([label for example in learned for label in example.labels], dtype=np.int64)
        lengths = np.array([len(example.labels) for example in learned], dtype=np.int64)
        return tokens, rows, labels, lengths.cumsum() - lengths

    def _report(self, progress: Progress) -> None:
        done, steps = len(self.done.losses), self._recipe.steps
        left = self.done.seconds / done * (steps - done)
        progress("train", done, steps, f"loss {self.done.losses[-1]:.3f}, {left:.0f} s left at most")

    # ── recall ──────────────────────────────────────────────────────────────────────────────────

    def _recalled(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        """Per example whether every answer token is the argmax after the right tokens before it; the curriculum notes it.

        Most answers have more than half of the probability on every token, or next to none on one, and are settled by the
        learner's pass, in the dtype of its products. The others go through the network, which answers.
        """
        worst = self._look(indices)
        recalled = worst < KNOWN_LOSS
        unsettled = np.flatnonzero(~recalled & (worst < HOPELESS_LOSS))
        members = [indices[place] for place in unsettled]
        recalled[unsettled] = self._answered(members, self._lora, self._companion)
        self._curriculum.note_recalled([indices[place] for place in unsettled if recalled[place]])
        return recalled

    def _look(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """The largest answer-token loss (nats) of each example, which the curriculum notes."""
        found = dict.fromkeys(indices, 0.0)
        for members in self._groups(indices, self._pass_tokens):
            tokens, rows, labels, starts = self._batch(members)
            losses = self._learner.losses(tokens, rows, labels, writes=self._writes(tokens, members))
            worst = _worst(losses, starts)
            self._curriculum.note(members, worst)
            found.update(zip(members, worst.tolist(), strict=True))
        return np.array([found[index] for index in indices], dtype=np.float32)

    def recall_of(self, lora: Lora | None, companion: Companion | None) -> float:
        """Share of the examples that these recall together; None is silent."""
        return float(self._answered(range(self._num_learned), lora, companion).mean())

    def _answered(self, members: Sequence[int], lora: Lora | None, companion: Companion | None) -> NDArray[np.bool_]:
        """Per member whether the network says every answer token after the right tokens before it."""
        right = dict.fromkeys(members, False)
        for part in self._groups(members, self._pass_tokens):
            tokens, rows, labels, starts = self._batch(part)
            writes = companion.writes(tokens, part, None) if companion is not None else None
            guesses = self._network.logits(tokens, rows, lora=lora, writes=writes).argmax(-1).cpu().numpy()
            right.update(zip(part, ~_worst(guesses != labels, starts), strict=True))
        return np.array([right[index] for index in members], dtype=np.bool_)

    # ── state ───────────────────────────────────────────────────────────────────────────────────

    def _save_checkpoint(self, folder: Path, name: str, base: str) -> None:
        (folder / name).mkdir(parents=True, exist_ok=True)
        self._lora.save(folder / name, self._recipe, base=base)
        if name not in self.done.checkpoints:
            self.done.checkpoints.append(name)

    def _tensors(self) -> dict[str, Tensor]:
        """What a step changes, by name."""
        tensors = {"values": self._lora.values, "mean": self._optimizer.mean, "square": self._optimizer.square}
        return tensors | (self._companion.state() if self._companion is not None else {})

    def _save_state(self, path: Path, identity: str) -> None:
        facts = {
            "identity": identity,
            "done": json.dumps(asdict(self.done)),
            "updates": str(self._optimizer.updates),
            "curriculum": json.dumps(self._curriculum.state()),
        }
        tensors = self._tensors()
        partial = path.with_suffix(".partial")
        save_file({name: tensor.cpu() for name, tensor in tensors.items()}, partial, metadata=facts)
        partial.replace(path)

    def _resume(self, path: Path, identity: str) -> None:
        """Take up the state in *path*; one of another training, or a broken one, is ignored (and replaced later)."""
        try:
            with safe_open(path, framework="pt") as state:
                facts = state.metadata() or {}
                if facts.get("identity") != identity:
                    return
                tensors = {name: state.get_tensor(name) for name in self._tensors()}
                done = Trained(**json.loads(facts["done"]))
                updates = int(facts["updates"])
                self._curriculum.resume(json.loads(facts["curriculum"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError):
            return
        for name, target in self._tensors().items():
            target.copy_(tensors[name])
        self._optimizer.updates = updates
        self._lora.version += 1
        self.done = done


def _worst(values: NDArray[Any], starts: Integers) -> NDArray[Any]:
    """The largest of the *values* (N,) of each example, whose values start at *starts*; NaN where one is."""
    with np.errstate(invalid="ignore"):
        found: NDArray[Any] = np.maximum.reduceat(values, starts)
    return found


class Adam:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on one vector, each value with its share of the learning rate."""

    def __init__(self, values: Tensor, shares: Tensor, weight_decay: float) -> None:
        self._values = values
        self._shares = shares
        self._weight_decay = weight_decay
        self.mean = torch.zeros_like(values)
        self.square = torch.zeros_like(values)
        self.updates = 0

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Move the values against *gradient*."""
        self.updates += 1
        beta_mean, beta_square = ADAM_BETAS
        self.mean.lerp_(gradient, 1 - beta_mean)
        self.square.mul_(beta_square).addcmul_(gradient, gradient, value=1 - beta_square)
        scale = (self.square / (1 - beta_square**self.updates)).sqrt_().add_(EPSILON)
        move = (self.mean / scale).div_(1 - beta_mean**self.updates).add_(self._values, alpha=self._weight_decay)
        self._values.addcmul_(move, self._shares, value=-learning_rate)
