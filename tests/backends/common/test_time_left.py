"""How long a training goes on is said in the first steps, in the right unit, and corrected while it learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_bench.backends.common import training_loop
from engram_bench.backends.common.time_left import TimeLeft
from engram_bench.records import Recipe
from engram_bench.system.progress import duration
from tests.backends.common.test_training_loop import EXAMPLES, RECIPE, FakeLearner, train

FIXED = Recipe(steps=1000, stop_at_recall=False)
UNTIL_RECALL = Recipe(steps=1000)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.4, "under 1 s"),
        (1.4, "1 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (150.0, "2 min"),
        (210.0, "4 min"),
        (5969.0, "99 min"),
        (5971.0, "1.7 h"),
        (86_400.0, "24.0 h"),
    ],
)
def test_a_duration_has_the_unit_that_it_is_read_in(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_fixed_number_of_steps_has_one_figure() -> None:
    left = TimeLeft(FIXED)
    for done in range(1, 6):
        left.note(done, 10.0 + 2.0 * done, known=0.0)  # the first step took 12 s

    assert (left.about_s, left.at_most_s) == (995 * 2.0, 995 * 2.0)
    assert left.words() == "33 min left"


def test_before_anything_is_known_half_of_the_steps_are_expected_and_looks_are_added() -> None:
    left = TimeLeft(UNTIL_RECALL)
    for done in range(1, 5):
        left.note(done, 2.0 * done, known=0.0)

    assert left.at_most_s == pytest.approx(996 * 2.0 * 1.4)
    assert left.about_s == pytest.approx(496 * 2.0 * 1.4)
    assert left.words() == "about 23 min left, at most 46 min"


@pytest.mark.parametrize(
    ("done", "known", "steps_left"),
    [(200, 0.5, 400), (200, 0.8, 100), (200, 1.0, 20), (900, 0.5, 100), (999, 0.9, 1), (1000, 0.9, 0)],
)
def test_the_rest_follows_from_what_is_known(done: int, known: float, steps_left: float) -> None:
    left = TimeLeft(UNTIL_RECALL)
    left.note(1, 3.0, known=0.0)
    left.note(done, 3.0 + 2.0 * (done - 1), known=known)

    assert left.about_s == pytest.approx(2.0 * steps_left)
    assert left.at_most_s == pytest.approx(2.0 * (1000 - done))


def test_a_training_that_goes_on_counts_its_own_steps_alone() -> None:
    left = TimeLeft(FIXED, done=500, seconds=4000.0)
    left.note(501, 4100.0, known=0.0)  # the first step of this process loads
    left.note(502, 4101.0, known=0.0)

    assert left.at_most_s == pytest.approx(498 * 1.0)


def test_nothing_is_said_before_a_second_step() -> None:
    left = TimeLeft(FIXED)

    assert left.words() == ""
    left.note(1, 5.0, known=0.0)
    assert left.words() == ""


class Clock:
    """A clock that a learner's steps move."""

    def __init__(self) -> None:
        self.now = 50.0

    def perf_counter(self) -> float:
        return self.now


class SlowLearner(FakeLearner):
    """A learner whose steps take some seconds of a clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__(first=1e6)
        self.clock, self.seconds = clock, seconds

    def move(self, learning_rate: float, clip: float) -> None:
        self.clock.now += self.seconds
        super().move(learning_rate, clip)


def told(monkeypatch: pytest.MonkeyPatch, folder: Path, recipe: Recipe, step_s: float) -> list[tuple[str, str]]:
    """The stages and notes of a training whose steps take *step_s*."""
    clock, found = Clock(), list[tuple[str, str]]()
    monkeypatch.setattr(training_loop, "time", clock)
    train(SlowLearner(clock, step_s), folder, recipe, progress=lambda stage, *rest: found.append((stage, rest[-1])))
    return found


def test_a_long_training_says_once_how_long_it_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fixed = Recipe(steps=30, batch_size=2, stop_at_recall=False)

    found = told(monkeypatch, tmp_path, fixed, 60.0)

    assert [note for stage, note in found if stage == "time"] == [
        f"training {len(EXAMPLES)} examples takes 26 min more: 30 steps, 60 s each"
    ]
    notes = [note for stage, note in found if stage == "train"]
    assert notes[-1].endswith(", 0 s left")
    assert notes[19].endswith(", 10 min left")


def test_a_training_that_may_end_early_says_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (note,) = [
        note for stage, note in told(monkeypatch, tmp_path, Recipe(steps=30, batch_size=2), 60.0) if stage == "time"
    ]

    assert note == "training 4 examples takes about 15 min more, at most 36 min: up to 30 steps, 60 s each"


def test_a_short_training_says_nothing_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert {stage for stage, _ in told(monkeypatch, tmp_path, RECIPE, 0.1)} == {"train"}
