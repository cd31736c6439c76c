"""Which examples a training step takes, and when recall is worth checking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.training_plan import batch_indices
from engram_bench.records import Recipe

KNOWN_LOSS = math.log(2)
"""Nats: an answer whose every token has less is recalled for sure, since the token has more than half of the probability."""
REHEARSED = 0.25
"""Share of a batch that goes to known examples, so that they stay known."""
STEPS_BETWEEN_CHECKS = 10
"""A check reads every example and costs about this many steps."""


class Curriculum:
    """The next batch of a training, from what was seen of each example so far.

    The first epoch takes every example once. After it, where the recipe stops at recall, batches hold mostly examples that
    were not known when last seen. Otherwise every epoch takes every example once.

    Args:
        num_examples: At least 1.
        recipe: Batch size, seed, and whether recall ends the training.
    """

    def __init__(self, num_examples: int, recipe: Recipe) -> None:
        self._recipe = recipe
        self._num_examples = num_examples
        self.known: NDArray[np.bool_] = np.zeros(num_examples, dtype=np.bool_)
        """Whether each example was known when last seen."""
        self._last_check = 0  # steps done by then

    def batch(self, step: int) -> list[int]:
        """Indices of the examples of *step*; depends on the seed, the step and what is known."""
        size = self._recipe.batch_size
        is_first_epoch = (step + 1) * size <= self._num_examples
        if is_first_epoch or not self._recipe.stop_at_recall or self.known.all():
            return batch_indices(step, self._recipe, self._num_examples)
        random = np.random.default_rng([self._recipe.seed, step])
        unknown = random.permutation(np.flatnonzero(~self.known))
        known = random.permutation(np.flatnonzero(self.known))
        num_known = min(len(known), max(int(size * REHEARSED), size - len(unknown)))
        return [int(index) for index in (*unknown[: size - num_known], *known[:num_known])]

    def note(self, indices: Sequence[int], worst_losses: NDArray[np.float32]) -> None:
        """Remember the largest answer-token loss (nats) of examples just seen."""
        self.known[list(indices)] = worst_losses < KNOWN_LOSS

    def should_check(self, steps_done: int) -> bool:
        """Whether enough examples may be recalled by now."""
        if not self._recipe.stop_at_recall or self.known.mean() < self._recipe.min_recall:
            return False
        return self._last_check == 0 or steps_done >= self._last_check + STEPS_BETWEEN_CHECKS

    def note_check(self, steps_done: int, recalled: NDArray[np.bool_]) -> None:
        """Remember what a check found after *steps_done* steps."""
        self._last_check = steps_done
        self.known = recalled.copy()

    def state(self) -> dict[str, Any]:
        """What :meth:`resume` needs, as JSON values."""
        return {"unknown": np.flatnonzero(~self.known).tolist(), "last_check": self._last_check}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up where :meth:`state` was asked for.

        Raises:
            KeyError, TypeError, IndexError: It is no such state.
        """
        known = np.ones(self._num_examples, dtype=np.bool_)
        known[state["unknown"]] = False
        self.known, self._last_check = known, int(state["last_check"])
