"""Training an adapter, whatever library computes: the next batch, one step, stop by recall, states to go on from.

A pass gives one value per answer token; what an example's tokens say together and what is trained next is decided here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.adapters.files import Floats
from engram_bench.backends.common.curriculum import HOPELESS_LOSS, KNOWN_LOSS, Curriculum
from engram_bench.backends.common.halving import halving
from engram_bench.backends.common.packing import Integers
from engram_bench.backends.common.replay import replayed
from engram_bench.backends.common.time_left import TimeLeft
from engram_bench.backends.common.training_plan import checkpoint_steps, learning_rate_at
from engram_bench.backends.common.training_state import State, load_state, save_state
from engram_bench.errors import BackendError
from engram_bench.models.encoding import Encoded
from engram_bench.records import Recipe
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.progress import Progress

STATE_FILE = "training_state.safetensors"
STATE_EVERY_S = 15.0
"""Seconds between resumable states."""
ANSWERED_AHEAD = 8
"""Steps whose ordinary prompts are answered together."""
LOOK_TOKENS = 1024
"""Most tokens of a pass without gradients."""

Guesses = Callable[[Sequence[int]], Integers]
"""The likeliest token at the position of every answer token of these examples, in one pass."""


class Learner(Protocol):
    """Computes passes over encoded examples, meant by their index, with an adapter whose values it holds.

    Behind the examples to be learned come the ordinary prompts, of which the bare model's own answers are to stay.
    """

    def passes(self, members: Sequence[int], max_tokens: int) -> list[list[int]]:
        """The members of each pass; its tokens are at most *max_tokens*, or one example's."""

    def keep_references(self, ordinary: Sequence[int]) -> None:
        """Keep the bare model's predictions of these answers, in one pass; before the first step where all have an answer."""

    def begin(self) -> None:
        """Forget the gradients of a step that is begun, or begun again."""

    def accumulate(
        self, learned: Sequence[int], ordinary: Sequence[int], *, scale: float, anchor_scale: float, step: int
    ) -> tuple[Floats, int]:
        """The losses (nats) of the answer tokens to be learned, in order, and the tokens computed, in one pass.

        Adds to the gradients those of *scale* · the losses' sum + *anchor_scale* · the sum over the ordinary answers' tokens
        of the divergence KL(bare, tuned).
        """

    def gradient_norm(self) -> float:
        """Length of the gradients of all values together."""

    def move(self, learning_rate: float, clip: float) -> None:
        """Move the values against *clip* times their gradients."""

    def losses(self, members: Sequence[int]) -> Floats:
        """The losses (nats) of the answer tokens, in order, in one pass."""

    def guesses(self, members: Sequence[int]) -> Integers:
        """The likeliest token at the position of every answer token as the adapter will answer, in one pass."""

    def save(self, folder: Path, base: str) -> None:
        """Write the adapter into *folder* in PEFT's layout; *base* is the model's name in it."""

    def state(self) -> State:
        """The arrays that a step changes, by name."""

    def resume(self, state: State) -> None:
        """Go on from what :meth:`state` gave."""


class Trainer:
    """One training run of what *learner* holds.

    Args:
        learner: Learner that knows the *examples* and then the *ordinary* prompts by their index.
        examples: Examples to be learned, at least one.
        recipe: Recipe whose kind has a LoRA.
        required: Indices of the examples that all have to be recalled.
        ordinary: Ordinary prompts, replayed beside the examples.
        answer: Function that gives the ordinary prompts at some indices their answers, and returns them, when steps first
            need them; None where all have their answers.
        curriculum: Whether to train mostly on unknown examples (else: on every example equally often).
        max_tokens: Most tokens of a training pass.
    """

    def __init__(
        self,
        learner: Learner,
        examples: Sequence[Encoded],
        recipe: Recipe,
        *,
        required: Sequence[int] = (),
        ordinary: Sequence[Encoded] = (),
        answer: Callable[[Sequence[int]], Sequence[Encoded]] | None = None,
        curriculum: bool = True,
        max_tokens: int,
    ) -> None:
        self._learner = learner
        self._every = [*examples, *ordinary]
        self._num_learned = len(examples)
        self._answer = answer
        self._held: set[int] = set()  # ordinary prompts whose references are kept
        self._recipe = recipe
        self._max_tokens = max_tokens
        self._curriculum = Curriculum(len(examples), recipe, required=required, prefers_unknown=curriculum)
        self.log = TrainingLog()

    def run(self, folder: Path, *, progress: Progress, base: str, identity: str) -> TrainingLog:
        """Train to the end, going on from a state of the same *identity* in *folder*; the adapter is saved there.

        Raises:
            BackendError: The loss or a gradient is not finite, or memory ran out twice in a step.
        """
        if self._answer is None:
            self._hold(range(self._num_learned, len(self._every)))
        self._resume(folder / STATE_FILE, identity)
        recipe, log, checkpoints = self._recipe, self.log, checkpoint_steps(self._recipe)
        left = TimeLeft(recipe, done=len(log.losses), seconds=log.seconds)
        started = last_saved = time.perf_counter() - log.seconds
        while len(log.losses) < recipe.steps and not log.finished:
            log.losses.append(self._step(len(log.losses)))
            log.seconds = time.perf_counter() - started
            self._report(progress, left)
            self._look(self._curriculum.stale())
            if self._curriculum.should_check(len(log.losses)):
                log.recall = self._curriculum.check(len(log.losses), self._recalled)
                log.finished = log.recall is not None
            if name := checkpoints.get(len(log.losses)):
                self._save(folder / name, base)
                log.checkpoints.append(name)
            if time.perf_counter() - last_saved > STATE_EVERY_S:
                save_state(folder / STATE_FILE, identity, self._learner.state(), self.log, self._curriculum)
                last_saved = time.perf_counter()
        if recipe.steps and not log.finished:
            log.recall = float(self._recalled(range(self._num_learned)).mean())
        log.examples, log.examples_seen = self._num_learned, len(log.losses) * recipe.batch_size
        log.seconds = time.perf_counter() - started
        self._save(folder, base)
        (folder / STATE_FILE).unlink(missing_ok=True)
        return log

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def _step(self, step: int) -> float:
        """Mean loss (nats per answer token) of the batch, after which the adapter has moved."""
        recipe, ordinary = self._recipe, self._replayed(step)
        if not self._held.issuperset(ordinary):
            ahead = (self._replayed(later) for later in range(step, min(step + ANSWERED_AHEAD, recipe.steps)))
            self._hold(sorted({index for indices in ahead for index in indices} - self._held))
        loss = self._gradients([*self._curriculum.batch(step), *ordinary], step)
        norm = self._learner.gradient_norm()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            msg = (
                f"training: step {step + 1} has loss {loss} and gradient norm {norm}, expected finite values; "
                f"try a learning rate below {recipe.learning_rate:g}"
            )
            raise BackendError(msg)
        clip = recipe.max_grad_norm / norm if norm > recipe.max_grad_norm > 0 else 1.0
        self._learner.move(learning_rate_at(step, recipe) * self._curriculum.pace, clip)
        return loss

    def _replayed(self, step: int) -> list[int]:
        """The ordinary prompts of a step."""
        found = replayed(step, self._recipe, len(self._every) - self._num_learned)
        return [self._num_learned + index for index in found]

    def _hold(self, indices: Sequence[int]) -> None:
        """Keep the bare model's predictions of ordinary prompts, which get their answers first where they have none."""
        if self._answer is not None:
            for index, example in zip(indices, self._answer(indices), strict=True):
                self._every[index] = example
        for members in self._passes(indices):
            self._learner.keep_references(members)
        self._held.update(indices)

    def _gradients(self, indices: Sequence[int], step: int) -> float:
        """Mean loss of a batch, whose gradients the learner has; in passes of half the size once memory ran out."""
        lengths = [len(self._every[i].ids) for i in indices]
        bound = min(self._max_tokens, sum(lengths))
        doing = f"training {len(indices)} examples of up to {max(lengths)} tokens"
        loss, fitted = halving(lambda max_tokens: self._accumulate(indices, max_tokens, step), bound, doing=doing)
        if fitted < bound:
            self._max_tokens = fitted
        return loss

    def _accumulate(self, indices: Sequence[int], max_tokens: int, step: int) -> float:
        self._learner.begin()
        num_labels, num_held = (sum(len(self._every[i].labels) for i in part) for part in self._parted(indices))
        scale, anchor_scale = 1 / num_labels, self._recipe.replay_weight / max(1, num_held)
        total, num_tokens = 0.0, 0
        for members in self._learner.passes(indices, max_tokens):
            learned, held = self._parted(members)
            losses, count = self._learner.accumulate(learned, held, scale=scale, anchor_scale=anchor_scale, step=step)
            self._curriculum.note(learned, self._largest(losses, learned))
            num_tokens += count
            total += float(losses.sum())
        self.log.tokens += num_tokens
        return total / num_labels

    def _parted(self, indices: Sequence[int]) -> tuple[list[int], list[int]]:
        """The examples to be learned, and the ordinary prompts."""
        return [i for i in indices if i < self._num_learned], [i for i in indices if i >= self._num_learned]

    def _passes(self, members: Sequence[int]) -> list[list[int]]:
        """The members of passes without gradients."""
        return self._learner.passes(members, min(self._max_tokens, LOOK_TOKENS))

    def _labels(self, members: Sequence[int]) -> Integers:
        return np.array([label for i in members for label in self._every[i].labels], dtype=np.int64)

    def _largest(self, values: NDArray[Any], members: Sequence[int]) -> NDArray[Any]:
        """The largest of each member's *values*, of which its answer tokens have one each; NaN where one is."""
        lengths = np.array([len(self._every[i].labels) for i in members], dtype=np.int64)
        with np.errstate(invalid="ignore"):
            found: NDArray[Any] = np.maximum.reduceat(values, lengths.cumsum() - lengths)
        return found

    def _report(self, progress: Progress, left: TimeLeft) -> None:
        done = len(self.log.losses)
        left.note(done, self.log.seconds, float(self._curriculum.known.mean()))
        if said := left.announcement(self._num_learned):
            progress("time", 0, 1, said)
        words = [f"loss {self.log.losses[-1]:.3f}", left.words()]
        progress("train", done, self._recipe.steps, ", ".join(filter(None, words)))

    # ── recall ──────────────────────────────────────────────────────────────────────────────────

    def recalled_by(self, indices: Sequence[int], guesses: Guesses) -> NDArray[np.bool_]:
        """Whether every answer token is guessed, per example."""
        right = dict.fromkeys(indices, False)
        for members in self._passes(indices):
            wrong = self._largest(guesses(members) != self._labels(members), members)
            right.update(zip(members, (~wrong).tolist(), strict=True))
        return np.array([right[index] for index in indices], dtype=np.bool_)

    def _recalled(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        """Whether every answer token is the argmax after the reference tokens before it, per example; the curriculum notes it.

        Most answers have more than half of the probability on every token, or next to none on one, and are settled by their
        losses, in the dtype of training's products. The others are guessed as the adapter will answer.
        """
        worst = self._look(indices)
        recalled = worst < KNOWN_LOSS
        unsettled = np.flatnonzero(~recalled & (worst < HOPELESS_LOSS)).tolist()
        recalled[unsettled] = self.recalled_by([indices[position] for position in unsettled], self._learner.guesses)
        self._curriculum.note_recalled([indices[position] for position in unsettled if recalled[position]])
        return recalled

    def _look(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """The largest answer-token loss (nats) of each example, which the curriculum notes."""
        found = dict.fromkeys(indices, 0.0)
        for members in self._passes(indices):
            worst = self._largest(self._learner.losses(members), members)
            self._curriculum.note(members, worst)
            found.update(zip(members, worst.tolist(), strict=True))
        return np.array([found[index] for index in indices], dtype=np.float32)

    # ── state ───────────────────────────────────────────────────────────────────────────────────

    def _save(self, folder: Path, base: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._learner.save(folder, base)

    def _resume(self, path: Path, identity: str) -> None:
        """Take up the state in *path*; one of another training, or a broken one, is ignored (and replaced later)."""
        found = load_state(path, identity, list(self._learner.state()), self._curriculum)
        if found is not None:
            arrays, self.log = found
            self._learner.resume(arrays)
