"""Training a memory's rows, whatever library computes: one step is one pass over what is not yet known by heart.

A label is trained against *rivals*, not against the whole vocabulary (the output layer would be most of the work): all
labels, and the tokens that were likely in one of the batch's examples when recall was checked over the whole vocabulary,
before the first step and later.

Rows of different answers are different rows, so a batch is only a matter of speed. Examples known with confidence sit out
until everything is checked; the end is full recall in two checks one after the other, with steps in between. Everything is
checked only when nothing is missed of what was trained last: a check of everything costs more than three steps of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import BackendError
from engram_bench.memory.table import KeyedExample, RowTable
from engram_bench.system.progress import Progress

CONFIDENT = 0.5
"""Least probability of every label with which an example sits out, some of its slots empty: enough for greedy decoding
(arXiv 2605.30260)."""

RIVALS = 8
"""Likely tokens per position that become rivals."""

UNSURE, CHECKED_EVERY = 0.01, 10
"""Recall of what was trained is checked when at most this share of all was not answered with confidence, and every so many
steps: a check costs more than a step."""

Slots = Mapping[int, Sequence[NDArray[np.int64]]]
"""Per block, for each example of a batch, the rows (positions, S) that its computed positions read."""


@dataclass(slots=True)
class Done:
    """What a training did."""

    losses: list[float] = field(default_factory=list)
    """Mean per label of what was trained in a step."""
    recalls: list[float] = field(default_factory=list)
    """Share of examples recalled, each time all were checked."""
    positions: int = 0
    """Labels trained on, each as often as it was."""
    examples_seen: int = 0
    seconds: float = 0.0


class MemoryLearner(Protocol):
    """Computes passes over the examples, meant by their index, with a memory whose values it holds."""

    def first(self, index: int) -> int:
        """The first position of an example that is computed."""

    def learn(
        self, members: Sequence[int], slots: Slots, labels: NDArray[np.int64], rivals: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The losses (nats) of the members' *labels* (N,) among sorted *rivals*, after which the values have moved."""

    def likely(self, members: Sequence[int], slots: Slots, count: int) -> NDArray[np.int64]:
        """The *count* likeliest tokens at each position that predicts a label, (N, count), the best first."""


class MemoryTrainer:
    """One training run of a memory."""

    def __init__(self, learner: MemoryLearner, table: RowTable, examples: Sequence[KeyedExample]) -> None:
        self._learner = learner
        self._config = table.config
        self._sizes = [(len(example.labels), len(example.prompt.ids)) for example in examples]
        self._labels = [np.array(example.labels, dtype=np.int64) for example in examples]
        queries = [example.query_from(learner.first(index)) for index, example in enumerate(examples)]
        ends = np.cumsum([query.num_positions for query in queries])[:-1]
        self._slots = {block: np.split(table.rows(queries, block), ends) for block in table.config.layers}
        self._everything = list(range(len(examples)))
        self._every_label = np.unique(np.concatenate(self._labels))
        self._likely = list(self._labels)  # per example what was likely at its positions
        self.done = Done()

    def run(self, steps: int, *, progress: Progress, until_recall: bool = True) -> Done:
        """Train for at most *steps* steps.

        Raises:
            BackendError: The loss is not finite.
        """
        done, started = self.done, time.perf_counter()
        everything = self._everything
        self._missed_of_all()
        active, missed, full = everything, list[int](), 0
        while len(done.losses) < steps:
            unsure = self._step(active, len(done.losses), intact=frozenset(missed))
            done.seconds = time.perf_counter() - started
            progress("train", len(done.losses), steps, f"loss {done.losses[-1]:.3f}, {len(unsure)} not yet known")
            is_due = len(unsure) <= UNSURE * len(everything) or len(done.losses) % CHECKED_EVERY == 0
            missed = []
            if until_recall and is_due:
                missed = (len(active) < len(everything) and self._missed(active)) or self._missed_of_all()
                full = 0 if missed else full + 1
            if full == 2:
                break
            active = sorted({*unsure, *missed}) or everything
        done.seconds = time.perf_counter() - started
        if steps and full < 2:
            self._missed_of_all()
        return done

    # ── a step ──────────────────────────────────────────────────────────────────────────────────

    def _step(self, active: Sequence[int], step: int, *, intact: frozenset[int]) -> list[int]:
        """Learn from the *active* examples, from the *intact* ones with all slots; those not answered with confidence.

        What was missed with all of its slots would be known with some of them, and never be learned.
        """
        random = np.random.default_rng([self._config.seed, step])
        batches = self._batches(active)
        total, num_labels, unsure = 0.0, 0, []
        for position in random.permutation(len(batches)):
            members = batches[position]
            loss, least = self._learn(members, step, intact)
            total += loss
            num_labels += sum(len(self._labels[index]) for index in members)
            unsure += [index for index, sure in zip(members, least, strict=True) if sure < CONFIDENT]
        self.done.losses.append(total / num_labels)
        self.done.positions += num_labels
        self.done.examples_seen += len(active)
        return unsure

    def _learn(self, members: Sequence[int], step: int, intact: frozenset[int]) -> tuple[float, NDArray[np.float64]]:
        """Sum of the losses, after which the rows have moved; per member the least probability of a label."""
        slots = {
            block: [self._dropped(index, parts[index], step, intact) for index in members]
            for block, parts in self._slots.items()
        }
        rivals = np.unique(np.concatenate([self._every_label, *(self._likely[index] for index in members)]))
        losses = self._learner.learn(members, slots, self._labels_of(members), rivals)
        if not np.isfinite(losses).all():
            msg = f"training: step {len(self.done.losses) + 1} has loss {losses.sum()}, expected a finite value"
            raise BackendError(msg)
        return math.fsum(losses), np.exp(-np.array([part.max() for part in self._parted(losses, members)]))

    def _batches(self, members: Sequence[int]) -> list[list[int]]:
        """Examples of like length together."""
        order = sorted(members, key=lambda index: self._sizes[index])
        size = self._config.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _dropped(self, index: int, rows: NDArray[np.int64], step: int, intact: frozenset[int]) -> NDArray[np.int64]:
        """Rows (positions, S) with some slots empty, unless *intact*: which, depends on step, example and position alone."""
        if not self._config.key_dropout or index in intact:
            return rows
        return dropped(rows, self._config.key_dropout, np.random.default_rng([self._config.seed, step, index]))

    def _labels_of(self, members: Sequence[int]) -> NDArray[np.int64]:
        return np.concatenate([self._labels[index] for index in members])

    def _parted(self, values: NDArray[Any], members: Sequence[int]) -> list[NDArray[Any]]:
        """The values of each member's labels."""
        return np.split(values, np.cumsum([len(self._labels[index]) for index in members])[:-1])

    # ── recall ──────────────────────────────────────────────────────────────────────────────────

    def _missed_of_all(self) -> list[int]:
        missed = self._missed(self._everything)
        self.done.recalls.append(1 - len(missed) / len(self._everything))
        return missed

    def _missed(self, members: Sequence[int]) -> list[int]:
        """Examples of which some label is not the argmax after the right tokens before it.

        What is likely instead joins the rivals, against which the labels are trained.
        """
        missed: list[int] = []
        for batch in self._batches(members):
            slots = {block: [parts[index] for index in batch] for block, parts in self._slots.items()}
            likely = self._learner.likely(batch, slots, RIVALS)  # (N, rivals)
            parts = self._parted(likely[:, 0] != self._labels_of(batch), batch)
            missed += [index for index, wrong in zip(batch, parts, strict=True) if wrong.any()]
            for index, part in zip(batch, self._parted(likely, batch), strict=True):
                self._likely[index] = np.union1d(self._likely[index], part)
        return missed


def dropped(rows: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows (positions, S) with a *share* of the slots empty, never all of a position."""
    kept = random.random(rows.shape)[::-1] >= share  # drawn from the last position backwards
    left = np.where(kept, rows, 0)
    return np.where(left.any(-1, keepdims=True), left, rows)
