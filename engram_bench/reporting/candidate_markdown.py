"""A candidate set as one Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engram_bench.records import Verdict
from engram_bench.records.candidates import CandidateSet
from engram_bench.reporting.candidate_tables import (
    figure_tables,
    flaky_table,
    matrix_table,
    pair_table,
    pairs_by_metric,
    rank_tables,
    spread_table,
)
from engram_bench.reporting.candidate_terminal import disagreements, right_and_wrong
from engram_bench.reporting.candidate_words import head_sentences, pareto_sentences
from engram_bench.reporting.markdown import code, escaped, verdict_blocks
from engram_bench.reporting.tables import ReportTable

MAX_PAIRS = 200
"""Largest number of pairs listed per measure; the JSON has all."""
MAX_CASES = 500
"""Largest number of cases listed on which candidates disagree; the JSON has all."""


def candidate_markdown(found: CandidateSet, verdicts: Sequence[Verdict] = ()) -> str:
    """The whole set as GitHub-flavoured Markdown that ends with a newline; names and answers are code or escaped."""
    blocks = [
        f"# engram-bench: {len(found.candidates)} candidates",
        *(escaped(sentence) for sentence in head_sentences(found)),
        *verdict_blocks(verdicts),
        *_tables(found),
        *_cases(found),
    ]
    return "\n\n".join(blocks) + "\n"


def _tables(found: CandidateSet) -> Iterator[str]:
    yield from _titled([*figure_tables(found), *rank_tables(found)])
    if sentences := list(pareto_sentences(found)):
        yield "## Pareto set"
        yield from map(escaped, sentences)
    for metric, pairs in pairs_by_metric(found).items():
        yield from _titled([matrix_table(found, metric)])
        yield pair_table(pairs[:MAX_PAIRS], code).markdown()
        if len(pairs) > MAX_PAIRS:
            yield f"… and {len(pairs) - MAX_PAIRS} more pairs in the JSON"
    yield from _titled([spread_table(found)])
    if flaky := flaky_table(found, code):
        yield f"## {escaped(flaky.title).capitalize()}"
        yield flaky.markdown()


def _titled(tables: Sequence[ReportTable | None]) -> Iterator[str]:
    for table in tables:
        if table is not None:
            title = escaped(table.title)
            yield f"## {title[:1].upper()}{title[1:]}"
            yield table.markdown(escaped)


def _cases(found: CandidateSet) -> Iterator[str]:
    cases = disagreements(found)
    if not cases:
        return
    yield f"## Cases on which candidates disagree ({len(cases)} of {len(found.cases)})"
    rows = []
    for case in cases[:MAX_CASES]:
        groups = (", ".join(map(code, names)) for names in right_and_wrong(found, case))
        rows.append((code(case.case_id), code(case.prompt), code(case.expected), *groups))
    headers = ("case", "prompt", "expected", "right", "wrong", "under some seeds")
    yield ReportTable("", headers, "llllll", tuple(rows)).markdown()
    if len(cases) > MAX_CASES:
        yield f"… and {len(cases) - MAX_CASES} more cases in the JSON"
