"""What a JUnit file says beside pass and fail: properties of a case and of the session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engram_bench.records import CaseResult, Comparison, Run, Verdict
from engram_bench.reporting.clean import printable
from engram_bench.reporting.words import OUTCOMES, run_facts
from engram_bench.scoring.comparison import STATES

MAX_CHARS = 300
"""Of an answer."""

Property = tuple[str, str]


def case_properties(baseline: CaseResult | None, candidate: CaseResult) -> list[Property]:
    """Category, split, place, expected answer, what both sides said and the state; nothing of a side that was not asked."""
    case = candidate.case
    found = [
        ("engram_category", case.category),
        ("engram_split", case.split),
        ("engram_source", str(case.source)),
        ("engram_expected", case.answers[0] if case.answers else ""),
        ("engram_baseline", baseline.completion.text if baseline else ""),
        ("engram_candidate", candidate.completion.text),
    ]
    if baseline and case.answers and "not_scored" not in (baseline.score.outcome, candidate.score.outcome):
        found.append(("engram_state", STATES[baseline.score.passed, candidate.score.passed]))
    return [(name, printable(text, MAX_CHARS)) for name, text in found if text]


def session_properties(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> list[Property]:
    """Where the figures come from, both sides of every measure as plain numbers, and the verdicts."""
    return [(f"engram_{name}", printable(text, MAX_CHARS)) for name, text in _facts(run, comparison, verdicts)]


def _facts(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> Iterator[Property]:
    yield from run_facts(run).items()
    for name, measure in comparison.measures.items():
        for side, estimate in (("baseline", measure.baseline), ("candidate", measure.candidate)):
            if estimate is not None:
                yield f"{name}_{side}", f"{estimate.value:.6g}"
    for verdict in verdicts:
        measured = f", {verdict.measured}" if verdict.measured else ""
        yield "gate", f"{verdict.gate}: {OUTCOMES[verdict.outcome]}{measured}"
