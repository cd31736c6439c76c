"""How long a training will go on, from the seconds of its first steps and from what is known so far."""

from __future__ import annotations

from engram_bench.records import Recipe
from engram_bench.system.progress import duration

FIRST_STEPS = 4
"""Steps after which the time of a training is announced. The first of them is left out: it prepares the weights."""
WORTH_SAYING_S = 30.0
"""Shortest training whose time is announced apart."""
USUAL_SHARE = 0.5
"""Share of the allowed steps that a training is expected to take before anything is known: 0.37 with the 572 examples of the
shipped patterns, 0.65 with the 3,000 of a set of 1,000."""
LOOKS = 1.4
"""Seconds of a training over those of its steps: a third of it goes to looks at examples and checks of recall, which begin
once examples are known."""
EARLY = 0.25
"""Share of known examples up to which looks have hardly begun and the rest cannot be extrapolated."""
LAST_ONES = 2.0
"""The last examples take so many times longer to learn than those known so far."""
LEAST = 0.1
"""Least share of the steps so far that the last checks are expected to take."""


class TimeLeft:
    """Seconds that are left of a training.

    Args:
        recipe: Recipe of the training.
        done: Steps that an earlier process has done.
        seconds: Seconds that these took.
    """

    def __init__(self, recipe: Recipe, *, done: int = 0, seconds: float = 0.0) -> None:
        self._recipe = recipe
        self._begun = done
        self._first: tuple[int, float] | None = None  # steps and seconds after the first step of this process
        self._done, self._seconds, self._known = done, seconds, 0.0

    def note(self, done: int, seconds: float, known: float) -> None:
        """Take note of all steps done, of their seconds, and of the share of examples known."""
        self._first = self._first or (done, seconds)
        self._done, self._seconds, self._known = done, seconds, known

    @property
    def step_s(self) -> float | None:
        """Seconds of a step with its share of the looks; None before a second step."""
        if self._first is None or self._done <= self._first[0]:
            return None
        return (self._seconds - self._first[1]) / (self._done - self._first[0])

    @property
    def at_most_s(self) -> float:
        """Seconds until the last step that is allowed; 0 before a second step."""
        return (self._recipe.steps - self._done) * self._seconds_a_step

    @property
    def about_s(self) -> float:
        """Seconds that are likely; at most :attr:`at_most_s`."""
        allowed = self._recipe.steps - self._done
        if not self._recipe.stop_at_recall:
            expected = float(allowed)
        elif self._known <= EARLY:
            expected = USUAL_SHARE * self._recipe.steps - self._done
        else:
            expected = self._done * max(LAST_ONES * (1 - self._known) / self._known, LEAST)
        return min(max(0.0, expected), allowed) * self._seconds_a_step

    def words(self) -> str:
        """``about 12 min left, at most 25 min``; empty before a second step."""
        if self.step_s is None:
            return ""
        if not self._recipe.stop_at_recall:
            return f"{duration(self.at_most_s)} left"
        return f"about {duration(self.about_s)} left, at most {duration(self.at_most_s)}"

    def announcement(self, num_examples: int) -> str:
        """The time of the whole training in words, after its first steps; empty at any other step, or if it is short."""
        if self._done - self._begun != FIRST_STEPS or self.step_s is None or self.at_most_s < WORTH_SAYING_S:
            return ""
        steps = f"{self._recipe.steps:,} steps, {_of_a_step(self.step_s)} each"
        if not self._recipe.stop_at_recall:
            return f"training {num_examples:,} examples takes {duration(self.at_most_s)} more: {steps}"
        about = f"about {duration(self.about_s)} more, at most {duration(self.at_most_s)}"
        return f"training {num_examples:,} examples takes {about}: up to {steps}"

    @property
    def _seconds_a_step(self) -> float:
        looks = LOOKS if self._recipe.stop_at_recall and self._known <= EARLY else 1.0
        return looks * (self.step_s or 0.0)


def _of_a_step(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 9.995 else duration(seconds)
