"""Tasks with both sides' answers, and the fixtures that hand them to the suite's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from engram_bench.door import printable
from engram_bench.plugin.carrier import GUARDS, ROWS
from engram_bench.plugin.handle import candidate_of, or_fail, session_of
from engram_bench.plugin.items import CANDIDATE
from engram_bench.plugin.outlet import fail, skip, xfail
from engram_bench.plugin.parts import part
from engram_bench.records import CaseResult, GuardResult, Side
from engram_bench.reporting.failure import MAX_MISSES, changed_text, failure_text, misses_text, wordings_text
from engram_bench.session.plan import Task, TaskGroup


@dataclass(frozen=True, slots=True)
class Guard:
    """One sanity guard over the seen prompts of a file."""

    result: GuardResult

    def assert_holds(self) -> None:
        """Fail with the reason; ``--engram-gate-only`` changes nothing, because gates on a broken set-up mean nothing."""
        if self.result.outcome == "broken":
            fail(self.result.reason)


@dataclass(frozen=True, slots=True)
class Miss:
    """A task that was not met."""

    task: Task
    rows: Sequence[CaseResult]
    """The candidate's answers that decide the task."""
    reason: str
    text: Callable[[], str]
    """Gives the text that a failing test shows."""

    @property
    def is_binding(self) -> bool:
        """Whether the miss fails its test whatever the gates say: a required pattern, or an answer that could not be scored."""
        return self.task.case.required or any(row.score.outcome == "not_scored" for row in self.rows)


@dataclass(frozen=True, slots=True)
class Answered:
    """One task, answered by both sides and scored."""

    task: Task
    rows: dict[Side, list[CaseResult]]
    """Greedy rows in the order of the task's cases, then sampled repeats."""

    def wrong(self) -> Miss | None:
        """The miss, unless the candidate's greedy answer is correct."""
        candidate = self.rows["candidate"][0]
        return None if candidate.score.passed else self._missed(candidate, candidate.score.reason)

    def lost(self) -> Miss | None:
        """The miss, if the baseline answered correctly and the candidate does not."""
        candidate = self.rows["candidate"][0]
        if candidate.score.passed or not self.rows["baseline"][0].score.passed:
            return None
        return self._missed(candidate, f"lost: {candidate.score.reason}")

    def inconsistent(self) -> Miss | None:
        """The miss, if the candidate's greedy answers are correct for a smaller share of wordings than the task asks."""
        rows = self.rows["candidate"][: len(self.task.cases)]
        passed = sum(row.score.passed for row in rows)
        if passed >= self.task.min_share * len(rows) - 1e-9:
            return None
        reason = (
            f"correct answers to {passed} of {len(rows)} wordings, expected at least {100 * self.task.min_share:.0f} %"
        )
        return Miss(self.task, rows, reason, lambda: self._wordings_text(reason, rows))

    def _missed(self, candidate: CaseResult, reason: str) -> Miss:
        return Miss(self.task, [candidate], reason, self._answer_text)

    def _answer_text(self) -> str:
        baseline, candidate = self.rows["baseline"][0], self.rows["candidate"][0]
        return failure_text(self.task.case, baseline.completion, candidate.completion, candidate.score)

    def _wordings_text(self, reason: str, rows: Sequence[CaseResult]) -> str:
        return wordings_text(reason, rows)


@dataclass(frozen=True, slots=True)
class Judged:
    """The tasks of one item: one, or all of a category.

    With ``--engram-gate-only`` a miss is ``xfailed``, except of a ``required`` pattern. An answer that could not be scored
    always fails.
    """

    name: str
    answered: Sequence[Answered]
    gate_only: bool

    def assert_passed(self) -> None:
        """Fail unless the candidate's greedy answers are correct: prompt, answers, diff and the pattern's line of each miss."""
        self._assert_none(Answered.wrong)

    def assert_kept(self) -> None:
        """Fail if the baseline answered a prompt correctly and the candidate does not."""
        self._assert_none(Answered.lost)

    def assert_consistent(self) -> None:
        """Fail if the candidate is correct for a smaller share of a pattern's wordings than the pattern asks."""
        self._assert_none(Answered.inconsistent)

    def _assert_none(self, miss_of: Callable[[Answered], Miss | None]) -> None:
        misses = [miss for each in self.answered if (miss := miss_of(each)) is not None]
        if not misses:
            return
        binding = [miss for miss in misses if miss.is_binding]
        if self.gate_only and not binding:
            counted = f"{len(misses)} of {len(self.answered)}" if len(self.answered) > 1 else misses[0].reason
            xfail(f"missed, left to the gates: {counted}")
        fail(self._text(binding or misses))

    def _text(self, misses: Sequence[Miss]) -> str:
        if len(self.answered) == 1:
            return misses[0].text()
        what = f"{self.name}: {len(misses)} of {len(self.answered)} missed{' and failed whatever the gates say' * self.gate_only}"
        return misses_text(what, [miss.text() for miss in misses[:MAX_MISSES]], len(misses))


@dataclass(frozen=True, slots=True)
class Reformed:
    """A file's prompts answered by the attached adapter and by another form of it, row by row."""

    form: str
    attached: list[CaseResult]
    other: list[CaseResult]

    def assert_same(self) -> None:
        """Fail if an answer differs in the other form, listing every prompt whose answer does."""
        pairs = zip(self.attached, self.other, strict=True)
        changed = [(one, two) for one, two in pairs if one.completion.text != two.completion.text]
        if changed:
            fail(changed_text(self.form, changed, len(self.attached)))


@pytest.fixture
def judged(request: pytest.FixtureRequest, engram_task: Task | TaskGroup, engram_candidate: str) -> Judged:
    """The tasks of an item of one of the suite's tests with both sides' scored answers."""
    session = candidate_of(request.node)
    test = request.function.__name__.removeprefix("test_")
    tasks = engram_task.tasks
    request.node.user_properties += [("engram_case", printable(task.case.id)) for task in tasks]
    if session_of(request.config).settings.has_many:
        request.node.user_properties.append((CANDIDATE, session.name))
    answered = [Answered(task, or_fail(partial(session.rows, task, test))) for task in tasks]
    request.node.stash[ROWS] = [row for each in answered for rows in each.rows.values() for row in rows]
    if isinstance(engram_task, Task):
        rows = answered[0].rows
        part("properties")(request.node, rows["baseline"][0] if "baseline" in rows else None, rows["candidate"][0])
    return Judged(engram_task.name, answered, gate_only=session.settings.gate_only)


@pytest.fixture
def guard(request: pytest.FixtureRequest, engram_task: Task, engram_candidate: str) -> Guard:
    """The result of this item's sanity guard; skipped without an adapter, or where the backend cannot decide."""
    session = candidate_of(request.node)
    if or_fail(lambda: session.bench.tuning.adapter) is None:
        skip("no adapter to guard: --engram-adapter=none")
    result = or_fail(lambda: session.guard_result(engram_task))
    request.node.stash[GUARDS] = [result]
    if result.outcome == "not_told":
        skip(result.reason)
    return Guard(result)


@pytest.fixture
def reformed(request: pytest.FixtureRequest, engram_task: Task, engram_candidate: str) -> Reformed:
    """The prompts of a file, answered by the attached adapter and by the adapter in another form."""
    session = candidate_of(request.node)
    if not session.bench.tuning.has_forms:
        skip("no adapter here that could have other forms: the bare model or a server is asked")
    other = or_fail(lambda: session.rows_as(engram_task.name, engram_task, "parity"))
    return Reformed(engram_task.name, or_fail(lambda: session.rows(engram_task, "parity"))["candidate"], other)
