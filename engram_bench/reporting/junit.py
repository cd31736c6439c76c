"""Properties of cases and of the session in a JUnit file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engram_bench.door import printable
from engram_bench.records import CaseResult, Comparison, Run, Verdict
from engram_bench.reporting.words import OUTCOMES, run_lines
from engram_bench.scoring.comparison import STATES

MAX_CHARS = 300
"""Longest value of a property, in characters."""

Property = tuple[str, str]
"""Name and value."""


def case_properties(baseline: CaseResult | None, candidate: CaseResult) -> list[Property]:
    """Category, split, source line, expected answer, both answers and the state; empty values are left out.

    Args:
        baseline: Result of the bare model; None where there is none.
        candidate: Result of the tuned model.
    """
    case = candidate.case
    found = [
        ("engram_category", case.category),
        ("engram_split", case.split),
        ("engram_source", str(case.source)),
        ("engram_expected", case.answers[0] if case.answers else ""),
        ("engram_baseline", baseline.completion.text if baseline else ""),
        ("engram_candidate", candidate.completion.text),
        ("engram_baseline_reasoning", baseline.completion.reasoning if baseline else ""),
        ("engram_candidate_reasoning", candidate.completion.reasoning),
    ]
    if baseline and case.answers and "not_scored" not in (baseline.score.outcome, candidate.score.outcome):
        found.append(("engram_state", STATES[baseline.score.passed, candidate.score.passed]))
    return [(name, printable(text, MAX_CHARS)) for name, text in found if text]


def session_properties(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> list[Property]:
    """The provenance, both sides of every measure as plain numbers, and the verdicts."""
    return [(f"engram_{name}", printable(text, MAX_CHARS)) for name, text in _session_texts(run, comparison, verdicts)]


def _session_texts(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> Iterator[Property]:
    yield from run_lines(run).items()
    for name, measure in comparison.measures.items():
        for side, estimate in (("baseline", measure.baseline), ("candidate", measure.candidate)):
            if estimate is not None:
                yield f"{name}_{side}", f"{estimate.value:.6g}"
    for verdict in verdicts:
        measured = f", {verdict.measured}" if verdict.measured else ""
        yield "gate", f"{verdict.gate}: {OUTCOMES[verdict.outcome]}{measured}"
