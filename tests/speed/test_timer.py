"""Scheduling of timed rounds, on a clock that only the rounds move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from engram_bench.speed.timer import MAX_ROUNDS, STEP, PairedTimer, nothing


@dataclass
class Bench:
    """A clock, and two sides that take the seconds they are told."""

    a_s: Callable[[int], float] = lambda _: 1.0
    b_s: Callable[[int], float] = lambda _: 1.0
    now: float = 0.0
    order: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def a(self, number: int) -> int:
        return self._do("A", number, self.a_s)

    def b(self, number: int) -> int:
        return self._do("B", number, self.b_s)

    def _do(self, name: str, number: int, seconds: Callable[[int], float]) -> int:
        self.order.append(f"{name}{number}")
        self.now += seconds(number)
        return 16

    def timer(self, after_round: Callable[[], None] = nothing) -> PairedTimer:
        return PairedTimer(self.b, self.a, clock=self.clock, after_round=after_round)


def test_sides_take_turns_at_going_first() -> None:
    bench = Bench()

    bench.timer().measure(5)

    assert bench.order[2:] == ["A0", "B0", "B1", "A1", "A2", "B2", "B3", "A3", "A4", "B4"]


@pytest.mark.parametrize("first", range(1, 6))
def test_every_round_has_its_pair_wherever_measuring_paused(first: int) -> None:
    bench = Bench()
    timer = bench.timer()

    timer.measure(first)
    timer.measure(6 - first)

    assert len(timer.pairs) == 6
    assert sorted(bench.order[2:]) == sorted(f"{side}{number}" for side in "AB" for number in range(6))


def test_a_drift_that_both_sides_share_leaves_the_ratio_alone() -> None:
    bench = Bench()
    bench.a_s = bench.b_s = lambda _: 1.0 + bench.now / 100

    timer = bench.timer()
    timer.measure(8)

    ratios = [mine.seconds / other.seconds for mine, other in timer.pairs]
    assert sum(ratio > 1 for ratio in ratios) == 4


def test_warm_up_runs_both_sides_once_and_counts_neither() -> None:
    bench = Bench(b_s=lambda _: 9.0 if len(bench.order) == 2 else 1.0)
    timer = bench.timer()

    timer.measure(1)
    timer.measure(1)

    assert bench.order[:4] == ["A0", "B0", "A0", "B0"]
    assert [mine.seconds for mine, _ in timer.pairs] == [1.0, 1.0]


def test_a_side_without_reference_is_timed_alone() -> None:
    bench = Bench()
    timer = PairedTimer(bench.b, clock=bench.clock)

    timer.measure(3)

    assert bench.order == ["B0", "B0", "B1", "B2"]
    assert [mine.tokens for mine, _ in timer.pairs] == [16, 16, 16]


def test_rounds_are_added_until_decided() -> None:
    bench = Bench()
    timer = bench.timer()
    timer.measure(4)

    added = timer.extend(lambda: len(timer.pairs) >= 9, budget_s=1_000)

    assert len(added) == 2 * STEP
    assert len(timer.pairs) == 4 + 2 * STEP


def test_steps_grow_with_what_was_measured() -> None:
    bench = Bench()
    timer = bench.timer()
    timer.measure(40)

    assert len(timer.extend(lambda: len(timer.pairs) > 60, budget_s=1_000)) == 10 + 12


def test_nothing_is_added_to_what_is_decided() -> None:
    bench = Bench()

    assert bench.timer().extend(lambda: True, budget_s=1_000) == []
    assert bench.order == []


def test_the_budget_is_not_exceeded_by_rounds_known_to_be_too_long() -> None:
    bench = Bench()
    timer = bench.timer()
    timer.measure(1)
    before = bench.now

    timer.extend(lambda: False, budget_s=20.0)  # a step takes 8 s

    assert bench.now - before == 16.0


def test_rounds_end_even_if_they_take_no_time() -> None:
    bench = Bench(lambda _: 0.0, lambda _: 0.0)
    timer = bench.timer()

    timer.extend(lambda: False, budget_s=1.0)

    assert len(timer.pairs) == 0
    assert 2 + 2 * MAX_ROUNDS <= len(bench.order) < 3 * MAX_ROUNDS


@pytest.mark.parametrize("side", ["a_s", "b_s"])
def test_a_pair_is_left_out_when_the_clock_jumps_back(side: str) -> None:
    bench = Bench()
    setattr(bench, side, lambda number: -3.0 if number == 2 else 1.0)
    timer = bench.timer()

    timer.measure(6)

    assert [mine.seconds for mine, _ in timer.pairs] == [1.0] * 5


def test_what_a_round_leaves_is_given_back_outside_the_time() -> None:
    bench = Bench()

    def give_back() -> None:
        bench.now += 100.0

    timer = bench.timer(after_round=give_back)
    timer.measure(2)

    assert [mine.seconds for mine, _ in timer.pairs] == [1.0, 1.0]


def test_an_error_of_a_round_reaches_the_caller() -> None:
    def exhausted(_: int) -> int:
        raise MemoryError

    with pytest.raises(MemoryError):
        PairedTimer(exhausted).measure(1)


def test_sides_get_the_same_numbers_so_that_they_answer_the_same_prompts() -> None:
    numbers: dict[str, list[int]] = {"A": [], "B": []}

    def remember(side: str) -> Callable[[int], int]:
        return lambda number: numbers[side].append(number) or 1  # type: ignore[func-returns-value]

    ticks: Iterator[float] = iter(range(1_000))
    PairedTimer(remember("B"), remember("A"), clock=lambda: next(ticks)).measure(7)

    assert numbers == {"A": [0, *range(7)], "B": [0, *range(7)]}
