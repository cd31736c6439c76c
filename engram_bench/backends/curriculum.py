"""Which examples a training step takes, and when recall is worth checking."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.training_plan import batch_indices
from engram_bench.records import Recipe

KNOWN_LOSS = math.log(2)
"""Nats: an answer whose every token has less is recalled for sure, since the token has more than half of the probability."""
REHEARSED = 0.25
"""Share of a batch that goes to known examples, so that they stay known."""
CHECKED_PER_TRAINED = 3
"""Examples that a check reads in about the time in which a step trains one."""
MAX_STEPS_BETWEEN_CHECKS = 10
FIRST_PORTION = 8
"""Batches; the portions of a check double from there."""


class Curriculum:
    """The next batch of a training, from what was seen of each example so far.

    The first epoch takes every example once. After it, where the recipe stops at recall, batches hold mostly examples that
    were not known when last seen. Otherwise every epoch takes every example once.

    Args:
        num_examples: At least 1.
        recipe: Batch size, seed, and whether recall ends the training.
        prefers_unknown: False is the plain way, every epoch takes every example once whatever is known.
    """

    def __init__(self, num_examples: int, recipe: Recipe, *, prefers_unknown: bool = True) -> None:
        self._recipe = recipe
        self._prefers_unknown = prefers_unknown and recipe.stop_at_recall
        self._num_examples = num_examples
        self.known: NDArray[np.bool_] = np.zeros(num_examples, dtype=np.bool_)
        """Whether each example was known when last seen."""
        self._worst = np.full(num_examples, np.inf, dtype=np.float32)  # largest answer-token loss when last seen
        self._next_check = 0  # not before so many steps are done

    def batch(self, step: int) -> list[int]:
        """Indices of the examples of *step*; depends on the seed, the step and what is known."""
        size = self._recipe.batch_size
        is_first_epoch = (step + 1) * size <= self._num_examples
        if is_first_epoch or not self._prefers_unknown or self.known.all():
            return batch_indices(step, self._recipe, self._num_examples)
        random = np.random.default_rng([self._recipe.seed, step])
        unknown = random.permutation(np.flatnonzero(~self.known))
        known = random.permutation(np.flatnonzero(self.known))
        num_known = min(len(known), max(int(size * REHEARSED), size - len(unknown)))
        return [int(index) for index in (*unknown[: size - num_known], *known[:num_known])]

    def note(self, indices: Sequence[int], worst_losses: NDArray[np.float32]) -> None:
        """Remember the largest answer-token loss (nats) of examples just seen."""
        self._worst[list(indices)] = worst_losses
        self.known[list(indices)] = worst_losses < KNOWN_LOSS

    def note_recalled(self, indices: Sequence[int]) -> None:
        """Remember examples as known whatever their losses were."""
        self.known[list(indices)] = True

    def should_check(self, steps_done: int) -> bool:
        """Whether enough examples may be recalled by now."""
        stops = self._recipe.stop_at_recall and self.known.mean() >= self._recipe.min_recall
        return bool(stops) and steps_done >= self._next_check

    def check(self, steps_done: int, recalled: Callable[[Sequence[int]], NDArray[np.bool_]]) -> float | None:
        """The share of all examples that are *recalled* if the recipe asks for no more, else None.

        Asks for those with the largest losses first, portion by portion, and no more once a batch too many is missed. The
        next check comes after about as many steps as this one cost.
        """
        num_asked = num_missed = 0
        allowed = (1 - self._recipe.min_recall) * self._num_examples
        for portion in self._portions():
            num_asked += len(portion)
            num_missed += int((~recalled(portion)).sum())
            if num_missed >= allowed + self._recipe.batch_size:
                break
        pause = math.ceil(num_asked / (CHECKED_PER_TRAINED * self._recipe.batch_size))
        self._next_check = steps_done + min(pause, MAX_STEPS_BETWEEN_CHECKS)
        share = (self._num_examples - num_missed) / self._num_examples
        return share if num_asked == self._num_examples and share >= self._recipe.min_recall else None

    def _portions(self) -> Iterator[list[int]]:
        order = np.argsort(-self._worst, kind="stable").tolist()
        start, size = 0, FIRST_PORTION * self._recipe.batch_size
        while start < len(order):
            yield order[start : start + size]
            start, size = start + size, 2 * size

    def state(self) -> dict[str, Any]:
        """What :meth:`resume` needs, as JSON values."""
        worst = [float(loss) for loss in self._worst]
        return {"unknown": np.flatnonzero(~self.known).tolist(), "worst": worst, "next_check": self._next_check}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up where :meth:`state` was asked for.

        Raises:
            KeyError, TypeError, IndexError, ValueError: It is no such state.
        """
        known = np.ones(self._num_examples, dtype=np.bool_)
        known[state["unknown"]] = False
        worst = np.array(state["worst"], dtype=np.float32).reshape(self._num_examples)
        self.known, self._worst, self._next_check = known, worst, int(state["next_check"])
