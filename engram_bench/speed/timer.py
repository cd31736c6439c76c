"""Two sides timed against each other: A B B A …, one pair a round, until the gates are decided.

A machine drifts: its clock, its neighbours, its memory. Two measurements minutes apart differ by more than what is looked
for, two rounds side by side share the drift, and turning the order round in every second pair cancels what is left of it.
So a side is timed only beside its reference, and what counts is the median of the paired ratios.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Clock = Callable[[], float]
"""Gives seconds that never run backwards, from any start."""
Work = Callable[[int], int]
"""Runs round number N (from 0) to its end and returns the number of new tokens."""

STEP = 4
"""Fewest rounds added at once: two of each order."""
GROWTH = 4
"""A step is a quarter of what was measured before: each look costs a bootstrap, and looking often finds chance."""
MAX_ROUNDS = 1_000
"""Most rounds of a side, however short a round and however long the budget."""


def now() -> float:
    """Seconds on the monotonic clock that all rounds are timed with."""
    return time.perf_counter()


def nothing() -> None:
    """Do nothing between rounds."""


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds and new tokens of a timed round."""

    seconds: float
    tokens: int


@dataclass
class PairedTimer:
    """Times a side, each round beside one of its reference.

    With A the reference and B the side the order is A B, B A, A B, …: :meth:`prepare` runs the rounds of A that are due
    before the next of B, so a benchmark that times B itself calls it as its untimed set-up. Without a reference only B is
    timed.
    """

    side: Work
    reference: Work | None = None
    clock: Clock = field(default_factory=lambda: now)
    after_round: Callable[[], None] = nothing
    """Called untimed after every round: gives back what a round leaves, raises where the conditions changed."""
    _side: list[Round] = field(default_factory=list)
    _reference: list[Round] = field(default_factory=list)

    def prepare(self) -> None:
        """The rounds of the reference due before the side's next: two, then none, in turn (one before the first).

        The very first time both are warmed up by a round that counts nowhere.
        """
        number = len(self._side)
        if number == 0:
            self._warm_up()
        self._catch_up(number + 1 if number % 2 == 0 else number - 1)

    def time_side(self) -> Round:
        """The side's next round, timed."""
        done = self._timed(self.side, len(self._side))
        self._side.append(done)
        return done

    def settle(self) -> None:
        """Run the reference's round that the side's last round still needs, if any."""
        self._catch_up(len(self._side))

    def measure(self, rounds: int) -> list[Round]:
        """The given number of further rounds, in pairs."""
        done = []
        for _ in range(rounds):
            self.prepare()
            done.append(self.time_side())
        self.settle()
        return done

    def extend(self, is_decided: Callable[[], bool], *, budget_s: float) -> list[Round]:
        """The rounds added, a few at a time, until *is_decided* says so or the next ones would exceed the budget."""
        added: list[Round] = []
        started = self.clock()
        step_s = 0.0
        while not is_decided() and len(self._side) < MAX_ROUNDS:
            before = self.clock()
            if before - started + step_s >= budget_s:
                break
            added += self.measure(max(STEP, len(self._side) // GROWTH // 2 * 2))
            step_s = self.clock() - before
        return added

    @property
    def pairs(self) -> list[tuple[Round, Round]]:
        """(side, reference) by round, or every round with itself where there is no reference.

        A round that took no time or less was timed by a broken clock: its pair is left out.
        """
        others: Sequence[Round] = self._side if self.reference is None else self._reference
        pairs = zip(self._side, others, strict=False)
        return [(mine, other) for mine, other in pairs if mine.seconds > 0 and other.seconds > 0]

    def _warm_up(self) -> None:
        for work in filter(None, (self.reference, self.side)):
            work(0)
            self.after_round()

    def _catch_up(self, number: int) -> None:
        while self.reference is not None and len(self._reference) < number:
            self._reference.append(self._timed(self.reference, len(self._reference)))

    def _timed(self, work: Work, number: int) -> Round:
        _begin_time_slice()
        started = self.clock()
        tokens = work(number)
        seconds = self.clock() - started
        self.after_round()
        return Round(seconds, tokens)


def _begin_time_slice() -> None:
    """Let other processes run first, so that a short round ends before the scheduler would interrupt it.

    On a two-core machine with 14 processes waiting it takes nine in ten rounds of 1.6 ms from 184 ms to 1.7 ms.
    """
    if hasattr(os, "sched_yield"):
        os.sched_yield()
