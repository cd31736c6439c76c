"""One candidate in one process: the answers to all of its selected items, and what other processes must know of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from engram_bench.errors import EngramBenchError
from engram_bench.plugin.items import tasks_of
from engram_bench.records import (
    CaseResult,
    Completion,
    GuardResult,
    Measure,
    PatternSet,
    Prompt,
    Side,
    SweepPoint,
)
from engram_bench.records.plain import to_plain
from engram_bench.session.plan import SUITE, Task, free_question
from engram_bench.session.settings import Settings

if TYPE_CHECKING:
    import pytest

    from engram_bench.inference.ask import Question
    from engram_bench.session.bench import Bench
    from engram_bench.speed.cases import SpeedCase
    from engram_bench.speed.lab import SpeedLab, SpeedTiming

T = TypeVar("T")
Key = tuple[str, str, int]


class CandidateSession:
    """A candidate with its bench and its answers; models are loaded when the first answer is missing."""

    def __init__(
        self,
        settings: Settings,
        open_bench: Callable[[Settings], Bench],
        items: Callable[[], Sequence[pytest.Item]],
    ) -> None:
        """A candidate that has asked nothing yet.

        Args:
            settings: Settings of the candidate.
            open_bench: Function that gives a bench under these settings.
            items: Function that gives the selected items about the candidate, once collection is over.
        """
        self.settings = settings
        self._open_bench = open_bench
        self._items = items
        self._lifetimes = ExitStack()
        self._rows: dict[Side, dict[Key, CaseResult]] = {}
        self._measured: tuple[tuple[Measure, ...], tuple[SweepPoint, ...]] | None = None
        self._lab: SpeedLab | None = None
        self._failure: tuple[str, EngramBenchError] | None = None
        self._was_timed = False
        self._has_noted = False

    @property
    def name(self) -> str:
        """Name that the user gave the candidate; empty where none is named."""
        return self.settings.candidate

    @cached_property
    def bench(self) -> Bench:
        """Model, adapter and stores of this candidate."""
        return self._open_bench(self.settings)

    def rows(self, task: Task, test: str) -> dict[Side, list[CaseResult]]:
        """Both sides' scored answers to a task of one of the suite's tests: a row per question.

        The first call answers all selected cases of both sides in a few batches, and measures what cases do not give: here an
        error has a test to fail.

        Raises:
            EngramBenchError: Something on the way failed; the same error for every case of the session.
        """
        asked = SUITE[test].questions(task, self.settings)
        rows = {side: [self._answers(side)[question.key] for question in asked] for side in SUITE[test].sides}
        if "baseline" in rows and self._measured is None:
            self._measured = self._guarded(self._measure)
        return rows

    def rows_as(self, form: str, task: Task, test: str) -> list[CaseResult]:
        """The same questions answered by the adapter in another form.

        Raises:
            EngramBenchError: Something on the way failed.
        """
        questions = SUITE[test].questions(task, self.settings)
        return self._guarded(lambda: self.bench.answer_as(form, questions))

    def guard_result(self, task: Task) -> GuardResult:
        """The result of a sanity guard over a file's seen prompts.

        Raises:
            EngramBenchError: Something on the way failed.
        """
        return self.bench.inspector().result(task, lambda: self.rows(task, "sanity")["candidate"])

    def complete(self, prompt: Prompt, side: Side, max_tokens: int | None) -> Completion:
        """One side's greedy completion of any prompt; prompts of selected ``pattern`` tests were answered in the plan.

        Raises:
            EngramBenchError: Something on the way failed.
        """
        question = free_question(prompt, self.settings, max_tokens)
        return self._guarded(lambda: self.bench.answer([question], side))[0].completion

    def timing(self, pattern_set: PatternSet, case: SpeedCase) -> SpeedTiming:
        """One side of a speed test, loaded and ready.

        Raises:
            EngramBenchError: The model or adapter cannot be had (the same error for every case of the session), or a prompt
                exceeds the context.
        """
        self._guarded(lambda: self.bench.respondents.of("candidate"))
        if self._lab is None:
            self._was_timed = True
            self._lab = self._lifetimes.enter_context(closing(self.bench.speed_lab()))
        return self._lab.timing(pattern_set, case)

    def notes(self) -> dict[str, Any]:
        """The run as this process knows it, in plain values: once, when both sides have answered or one was timed."""
        has_answered = self._rows.keys() >= {"baseline", "candidate"}
        if self._has_noted or not (has_answered or self._was_timed):
            return {}
        self._has_noted = True
        run = self.bench.run()
        if self._measured is not None:
            run = replace(run, measures=self._measured[0], sweep=self._measured[1])
        plain: dict[str, Any] = to_plain(run)
        return plain

    def rest(self) -> None:
        """Close the adapter and the timed sides, which are opened again where they are needed again; keep the answers."""
        self._lifetimes.close()
        self._lab = None
        if "bench" in vars(self):
            self.bench.close()

    def _measure(self) -> tuple[tuple[Measure, ...], tuple[SweepPoint, ...]]:
        baseline = list(self._answers("baseline").values())
        return self.bench.measures(baseline), self.bench.sweep(self._plan("candidate"))

    def _answers(self, side: Side) -> dict[Key, CaseResult]:
        if side not in self._rows:
            plan = self._plan(side)
            results = self._guarded(lambda: self.bench.answer(plan, side))
            self._rows[side] = {question.key: result for question, result in zip(plan, results, strict=True)}
        return self._rows[side]

    def _plan(self, side: Side) -> list[Question]:
        """The questions of every selected item to a side, each once."""
        questions: dict[Key, Question] = {}
        for item in self._items():
            test = SUITE.get(getattr(item, "originalname", "").removeprefix("test_"))
            if test is not None and side in test.sides:
                asked = (each for task in tasks_of(item) for each in test.questions(task, self.settings))
                questions.update((each.key, each) for each in asked)
        return list(questions.values())

    def _guarded(self, work: Callable[[], T]) -> T:
        """What *work* gives; a failure is kept, so that the next case does not train or load again."""
        if self._failure is not None:
            test, error = self._failure
            msg = f"not answered, because an earlier test failed with {type(error).__name__}: {test}"
            raise EngramBenchError(msg) from error
        try:
            return work()
        except EngramBenchError as error:
            self._failure = (os.environ.get("PYTEST_CURRENT_TEST", "the first case").rpartition(" ")[0], error)
            raise
