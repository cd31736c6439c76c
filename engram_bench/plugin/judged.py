"""A case with both sides' answers, as the suite's tests receive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import pytest

from engram_bench.records import Case, CaseResult

if TYPE_CHECKING:
    from engram_bench.records import Side

ROWS: pytest.StashKey[list[CaseResult]] = pytest.StashKey()
"""On an item: the rows that travel to the ledger with its report."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One case, answered by both sides and scored."""

    case: Case
    rows: dict[Side, list[CaseResult]]
    gate_only: bool

    def assert_passed(self) -> None:
        """Fail unless the candidate's greedy answer is right, showing prompt, answers, diff and the pattern's line.

        With ``--engram-gate-only`` a miss is ``xfailed``, except of a ``required`` pattern. An answer that could not be
        scored always fails.
        """
        candidate = self.rows["candidate"][0]
        if not candidate.score.passed:
            self._miss(candidate)

    def _miss(self, candidate: CaseResult) -> NoReturn:
        from engram_bench.reporting.failure import failure_text

        if self.gate_only and candidate.score.outcome == "failed" and not self.case.required:
            pytest.xfail(f"missed, left to the gates: {candidate.score.reason}")
        baseline = self.rows["baseline"][0]
        pytest.fail(failure_text(self.case, baseline.completion, candidate.completion, candidate.score), pytrace=False)
