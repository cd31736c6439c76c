"""A task with both sides' answers, as the suite's tests receive it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from engram_bench.records import Case, CaseResult, GuardResult

if TYPE_CHECKING:
    from engram_bench.plan import Task
    from engram_bench.records import Side

ROWS: pytest.StashKey[list[CaseResult]] = pytest.StashKey()
"""On an item: the rows that travel to the ledger with its report."""


GUARDS: pytest.StashKey[list[GuardResult]] = pytest.StashKey()
"""On an item: what its guard says, which travels too."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One sanity guard over the seen prompts of a file."""

    result: GuardResult

    def assert_holds(self) -> None:
        """Fail with the reason; ``--engram-gate-only`` changes nothing, because gates on a broken set-up mean nothing."""
        if self.result.outcome == "broken":
            pytest.fail(self.result.reason, pytrace=False)


@dataclass(frozen=True, slots=True)
class Judged:
    """One task, answered by both sides and scored.

    With ``--engram-gate-only`` a miss is ``xfailed``, except of a ``required`` pattern. An answer that could not be scored
    always fails.
    """

    task: Task
    rows: dict[Side, list[CaseResult]]
    """Greedy rows in the order of the task's cases, then sampled repeats."""
    gate_only: bool

    @property
    def case(self) -> Case:
        """The case the task is about."""
        return self.task.case

    def assert_passed(self) -> None:
        """Fail unless the candidate's greedy answer is right, showing prompt, answers, diff and the pattern's line."""
        candidate = self.rows["candidate"][0]
        if not candidate.score.passed:
            self._miss([candidate], candidate.score.reason, self._answer_text)

    def assert_kept(self) -> None:
        """Fail if the baseline answered rightly and the candidate does not."""
        baseline, candidate = self.rows["baseline"][0], self.rows["candidate"][0]
        if baseline.score.passed and not candidate.score.passed:
            self._miss([candidate], f"lost: {candidate.score.reason}", self._answer_text)

    def assert_consistent(self) -> None:
        """Fail if the candidate's greedy answers are right under a smaller share of wordings than the task asks."""
        rows = self.rows["candidate"][: len(self.task.cases)]
        passed = sum(row.score.passed for row in rows)
        if passed < self.task.min_share * len(rows) - 1e-9:
            wanted = f"expected at least {100 * self.task.min_share:.0f} %"
            reason = f"right under {passed} of {len(rows)} wordings, {wanted}"
            self._miss(rows, reason, lambda: self._wordings_text(reason))

    def _miss(self, rows: list[CaseResult], reason: str, text: Callable[[], str]) -> None:
        is_scored = all(row.score.outcome != "not_scored" for row in rows)
        if self.gate_only and is_scored and not self.case.required:
            pytest.xfail(f"missed, left to the gates: {reason}")
        pytest.fail(text(), pytrace=False)

    def _answer_text(self) -> str:
        from engram_bench.reporting.failure import failure_text

        baseline, candidate = self.rows["baseline"][0], self.rows["candidate"][0]
        return failure_text(self.case, baseline.completion, candidate.completion, candidate.score)

    def _wordings_text(self, reason: str) -> str:
        from engram_bench.reporting.failure import wordings_text

        return wordings_text(reason, self.rows["candidate"][: len(self.task.cases)])


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
            from engram_bench.reporting.failure import changed_text

            pytest.fail(changed_text(self.form, changed, len(self.attached)), pytrace=False)
