"""Which examples a training step takes, and when recall is worth checking."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.training_plan import batch_indices
from engram_bench.records import Recipe
from engram_bench.records.training import USUAL_EXAMPLES

KNOWN_LOSS = math.log(2)
"""Loss (nats) of a token that has half of the probability: an answer whose every token has less is recalled for sure."""
HOPELESS_LOSS = 2.0
"""Loss (nats) above which a token counts as missed without a look at the others; the likeliest one hardly ever has it."""
REHEARSED = 0.25
"""Least share of a batch that goes to known examples, so that they stay known."""
LEAST_PACE = 0.15
"""Least share of the learning rate, when all is known but what the last check found."""
SURPRISES = 0.5
"""Share of the examples taken as unknown that turned out known, from which on looking at all unknown ones again pays: a
look costs a quarter of training them."""
CHECKED_PER_TRAINED = 3
"""Examples that a check reads in about the time in which a step trains one."""
MAX_STEPS_BETWEEN_CHECKS = 10
"""Longest pause after a check that failed, in steps, with USUAL_EXAMPLES or fewer; more examples make it as much longer. A full
check of 3,000 examples costs 125 steps: one every 10 steps would cost more than training."""
FIRST_PORTION = 8
"""Batches in the first portion of a check; each further portion is twice as large."""


class Curriculum:
    """The next batch of a training, from what was seen of each example so far.

    The first epoch takes every example once. After it, where the recipe stops at recall, batches hold mostly examples that
    were not known when last seen, and known ones with large losses. Otherwise every epoch takes every example once.

    Args:
        num_examples: Number of examples, at least 1.
        recipe: Batch size, seed, and whether recall ends the training.
        required: Indices of the examples that all have to be recalled, whatever share of them all is enough.
        prefers_unknown: Whether batches hold mostly unknown examples; else every epoch takes every example once.
    """

    def __init__(
        self, num_examples: int, recipe: Recipe, *, required: Sequence[int] = (), prefers_unknown: bool = True
    ) -> None:
        self._recipe = recipe
        self._required = list(required)
        self._prefers_unknown = prefers_unknown and recipe.stop_at_recall
        self._num_examples = num_examples
        self.known: NDArray[np.bool_] = np.zeros(num_examples, dtype=np.bool_)
        """Whether each example was known when last seen."""
        self._worst = np.full(num_examples, np.inf, dtype=np.float32)  # largest answer-token loss when last seen
        self._next_check = 0  # not before so many steps are done
        self._retaken: set[int] = set()  # of the batch, what was not known when last seen
        self._num_retaken = 0  # since the last look
        self._surprises = 0  # of those, how many had become known

    def batch(self, step: int) -> list[int]:
        """Indices of the examples of *step*; depends on the seed, the step and what is known."""
        size = self._recipe.batch_size
        is_first_epoch = (step + 1) * size <= self._num_examples
        if is_first_epoch or not self._prefers_unknown or self.known.all():
            return batch_indices(step, self._recipe, self._num_examples)
        random = np.random.default_rng([self._recipe.seed, step])
        unknown = random.permutation(np.flatnonzero(~self.known))[: size - int(size * REHEARSED)]
        known = random.permutation(self._shaky())[: size - len(unknown)]
        self._retaken = set(unknown.tolist())
        return [int(index) for index in (*unknown, *known)]

    def _shaky(self) -> NDArray[np.int64]:
        """The known examples with the largest losses, which are forgotten first: a quarter of them, at least a batch."""
        known = np.flatnonzero(self.known)
        at_most = max(self._recipe.batch_size, len(known) // 4)
        return known[np.argsort(-self._worst[known], kind="stable")[:at_most]]

    @property
    def pace(self) -> float:
        """Share of the learning rate, LEAST_PACE..1: the less is left to learn, the more a large step would spoil."""
        return max(LEAST_PACE, (1 - float(self.known.mean())) ** 0.5) if self._prefers_unknown else 1.0

    def note(self, indices: Sequence[int], worst_losses: NDArray[np.float32]) -> None:
        """Remember the largest answer-token loss (nats) of examples just seen."""
        self._worst[list(indices)] = worst_losses
        self.known[list(indices)] = worst_losses < KNOWN_LOSS
        retaken = self._retaken.intersection(indices)
        self._retaken -= retaken
        self._num_retaken += len(retaken)
        self._surprises += int(self.known[list(retaken)].sum())

    def stale(self) -> list[int]:
        """The unknown examples if many of them have become known since they were seen, so that a look pays; else none."""
        unknown = np.flatnonzero(~self.known)
        enough = 2 * self._recipe.batch_size
        if self._num_retaken < enough or len(unknown) < enough or self._surprises < SURPRISES * self._num_retaken:
            return []
        self._num_retaken = self._surprises = 0
        return [int(index) for index in unknown]

    def note_recalled(self, indices: Sequence[int]) -> None:
        """Remember examples as known whatever their losses were."""
        self.known[list(indices)] = True

    def should_check(self, steps_done: int) -> bool:
        """Whether enough examples may be recalled by now."""
        enough = self.known.mean() >= self._recipe.min_recall and self.known[self._required].all()
        return self._recipe.stop_at_recall and bool(enough) and steps_done >= self._next_check

    def check(self, steps_done: int, recalled: Callable[[Sequence[int]], NDArray[np.bool_]]) -> float | None:
        """The share of all examples that are *recalled* if the recipe asks for no more, else None.

        Asks for the required ones first, those with the largest losses before others, portion by portion, and no more
        once too many or a required one is missed. The next check comes after about as many steps as this one cost.
        """
        num_asked, missed, is_enough = 0, set[int](), True
        allowed = (1 - self._recipe.min_recall) * self._num_examples
        for portion in self._portions():
            num_asked += len(portion)
            missed |= {index for index, is_right in zip(portion, recalled(portion), strict=True) if not is_right}
            is_enough = len(missed) <= allowed and missed.isdisjoint(self._required)
            if not is_enough:
                break
        pause = math.ceil(num_asked / (CHECKED_PER_TRAINED * self._recipe.batch_size))
        longest = MAX_STEPS_BETWEEN_CHECKS * max(1, self._num_examples // USUAL_EXAMPLES)
        self._next_check = steps_done + min(pause, longest)
        return (self._num_examples - len(missed)) / self._num_examples if is_enough else None

    def _portions(self) -> Iterator[list[int]]:
        required = np.zeros(self._num_examples, dtype=np.bool_)
        required[self._required] = True
        order = np.lexsort((-self._worst, ~required)).tolist()
        start, size = 0, FIRST_PORTION * self._recipe.batch_size
        while start < len(order):
            yield order[start : start + size]
            start, size = start + size, 2 * size

    def state(self) -> dict[str, Any]:
        """The state that :meth:`resume` needs, as JSON values."""
        worst = [float(loss) for loss in self._worst]
        return {
            "unknown": np.flatnonzero(~self.known).tolist(),
            "worst": worst,
            "next_check": self._next_check,
            "retaken": self._num_retaken,
            "surprises": self._surprises,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave.

        Raises:
            KeyError, TypeError, IndexError, ValueError: It is no such state.
        """
        known = np.ones(self._num_examples, dtype=np.bool_)
        known[state["unknown"]] = False
        worst = np.array(state["worst"], dtype=np.float32).reshape(self._num_examples)
        counts = [int(state[name]) for name in ("next_check", "retaken", "surprises")]
        self.known, self._worst = known, worst
        self._next_check, self._num_retaken, self._surprises = counts
