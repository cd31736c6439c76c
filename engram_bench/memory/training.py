"""The training of a memory's rows, whatever library computes: a step is one pass over the examples not yet recalled surely.

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import BackendError
from engram_bench.memory.slots import Rows, arranged, query_rows
from engram_bench.memory.table import KeyedExample, RowTable
from engram_bench.memory.values import MemoryValues, ReadValues, Values
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.progress import Progress

CONFIDENT = 0.5
"""Least probability of every label with which an example sits out, some of its slots empty: enough for greedy decoding
(arXiv 2605.30260)."""

RIVALS = 8
"""Likely tokens per position that become rivals."""

UNSURE, CHECKED_EVERY = 0.01, 10
"""Recall of what was trained is checked when at most this share of all was not answered with confidence, and every so many
steps: a check costs more than a step."""


class MemoryPasses(Protocol):
    """Passes over examples, which are meant by their index: all that a backend computes in a memory's training."""

    def first(self, index: int) -> int:
        """The first position of an example that is computed; every position after it is computed as well."""

    def gradients(
        self, members: Sequence[int], read: ReadValues, targets: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Mapping[int, Values]]:
        """The losses (nats) of the members' labels, and the gradients of their sum.

        Args:
            members: Examples of the pass.
            read: Values that the memory adds, and the rows of the arranged batch (:func:`slots.arranged`).
            targets: Index in *tokens* of each of the members' labels, (N,).
            tokens: Sorted tokens that the labels are distinguished from.

        Returns:
            Losses (N,), and gradients by block and name; a value that took no part has none.
        """

    def likely(self, members: Sequence[int], read: ReadValues, count: int) -> NDArray[np.int64]:
        """The *count* likeliest tokens at each position that predicts a label, (N, count), the best first."""


class MemoryTrainer:
    """One training run of a memory.

    Args:
        passes: Passes over the *examples*.
        values: Values of the memory; they move.
        table: Addresses of the memory's rows.
        examples: Examples to be learned, at least one.
    """

    def __init__(
        self, passes: MemoryPasses, values: MemoryValues, table: RowTable, examples: Sequence[KeyedExample]
    ) -> None:
        self._passes = passes
        self._values = values
        self._config = table.config
        self._sizes = [(len(example.labels), len(example.prompt.ids)) for example in examples]
        self._labels = [np.array(example.labels, dtype=np.int64) for example in examples]
        self._rows = query_rows(table, [example.query_from(passes.first(i)) for i, example in enumerate(examples)])
        self._everything = list(range(len(examples)))
        self._every_label = np.unique(np.concatenate(self._labels))
        self._likely = list(self._labels)  # per example what was likely at its positions
        self.log = TrainingLog(examples=len(examples))

    def run(self, steps: int, *, progress: Progress, until_recall: bool = True) -> TrainingLog:
        """Train for at most *steps* steps.

        Raises:
            BackendError: The loss is not finite.
        """
        log, started = self.log, time.perf_counter()
        everything = self._everything
        self._missed_of_all()
        active, missed, full = everything, list[int](), 0
        while len(log.losses) < steps:
            unsure = self._step(active, len(log.losses), intact=frozenset(missed))
            log.seconds = time.perf_counter() - started
            progress("train", len(log.losses), steps, f"loss {log.losses[-1]:.3f}, {len(unsure)} not yet known")
            is_due = len(unsure) <= UNSURE * len(everything) or len(log.losses) % CHECKED_EVERY == 0
            missed = []
            if until_recall and is_due:
                missed = (len(active) < len(everything) and self._missed(active)) or self._missed_of_all()
                full = 0 if missed else full + 1
            if full == 2:
                break
            active = sorted({*unsure, *missed}) or everything
        log.seconds = time.perf_counter() - started
        if steps and full < 2:
            self._missed_of_all()
        return log

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
        self.log.losses.append(total / num_labels)
        self.log.tokens += num_labels
        self.log.examples_seen += len(active)
        return unsure

    def _learn(self, members: Sequence[int], step: int, intact: frozenset[int]) -> tuple[float, NDArray[np.float64]]:
        """Sum of the losses, after which the rows have moved; per member the least probability of a label."""
        read = self._read(members, lambda index, rows: self._dropped(index, rows, step, intact))
        rivals = np.unique(np.concatenate([self._every_label, *(self._likely[index] for index in members)]))
        targets = np.searchsorted(rivals, self._labels_of(members))
        losses, gradients = self._passes.gradients(members, read, targets, rivals)
        if not np.isfinite(losses).all():
            msg = f"training: step {len(self.log.losses) + 1} has loss {losses.sum()}, expected a finite value"
            raise BackendError(msg)
        self._values.move(read, gradients)
        return math.fsum(losses), np.exp(-np.array([part.max() for part in self._parted(losses, members)]))

    def _read(self, members: Sequence[int], dropped: Callable[[int, Rows], Rows]) -> ReadValues:
        """The values that a pass over the members needs, some of their slots empty."""
        parts = {block: [dropped(index, rows[index]) for index in members] for block, rows in self._rows.items()}
        return self._values.read({block: arranged(part) for block, part in parts.items()})

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
        self.log.recall = 1 - len(missed) / len(self._everything)
        return missed

    def _missed(self, members: Sequence[int]) -> list[int]:
        """Examples of which some label is not the argmax after the reference tokens before it.

        What is likely instead joins the rivals, against which the labels are trained.
        """
        missed: list[int] = []
        for batch in self._batches(members):
            likely = self._passes.likely(batch, self._read(batch, lambda _, rows: rows), RIVALS)  # (N, rivals)
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
