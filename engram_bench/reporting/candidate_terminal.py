"""A candidate set as the lines of a terminal section, readable with fifty candidates on 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from engram_bench.door import encodable, printable
from engram_bench.records import Verdict
from engram_bench.records.candidates import CandidateSet, CaseOfAll
from engram_bench.reporting.candidate_tables import (
    HEADLINES,
    RANKED,
    figure_tables,
    flaky_table,
    matrix_table,
    numbered,
    pairs_by_metric,
    rank_tables,
    spread_table,
)
from engram_bench.reporting.candidate_words import head_sentences, pareto_sentences
from engram_bench.reporting.tables import ReportTable
from engram_bench.reporting.words import LONGEST_WORDS, verdict_sentence

MAX_CASES = 10
"""Largest number of cases listed on which candidates disagree, and of flaky cases."""


def candidate_lines(
    found: CandidateSet, verdicts: Sequence[Verdict] = (), *, width: int = 80, encoding: str = "utf-8", page: str = ""
) -> list[str]:
    """The report on a candidate set: figures, ranks, pairs, seeds, cases, the Pareto set, and the gates at the end.

    Args:
        found: Candidates.
        verdicts: Verdicts of the gates, in order.
        width: Columns of the terminal, of which at least 40 are used.
        encoding: Encoding of the stream for the lines; characters that it lacks are replaced.
        page: Path of the page with the full lists, named where a list is cut.
    """
    blocks = (
        [line for text in head_sentences(found) for line in _wrapped(text, width)],
        *_tables(found, width),
        _disagreements(found, width, page),
        [line for text in pareto_sentences(found) for line in _wrapped(text, width)],
        _verdicts(verdicts, width),
    )
    lines: list[str] = []
    for block in blocks:
        if made := list(block):
            lines += ["", *made] if lines else made
    return [encodable(printable(line.rstrip(), LONGEST_WORDS), encoding) for line in lines]


def disagreements(found: CandidateSet) -> list[CaseOfAll]:
    """Cases that some candidates answer correctly and others do not, under any seed."""
    return [case for case in found.cases if len({share for share in case.right if share is not None}) > 1]


def right_and_wrong(found: CandidateSet, case: CaseOfAll) -> tuple[list[str], list[str], list[str]]:
    """Candidates that are right, wrong, and right under some seeds only."""
    shares = dict(zip((each.name for each in found.candidates), case.right, strict=True))
    return (
        [name for name, share in shares.items() if share == 1],
        [name for name, share in shares.items() if share == 0],
        [name for name, share in shares.items() if share is not None and 0 < share < 1],
    )


def _tables(found: CandidateSet, width: int) -> Iterator[Iterable[str]]:
    tables: list[ReportTable] = [
        *figure_tables(found, only=HEADLINES, width=width),
        *rank_tables(found, only=RANKED, width=width),
        *(matrix_table(found, metric, width=width) for metric in pairs_by_metric(found)),
    ]
    for table in (*tables, spread_table(found, HEADLINES), flaky_table(found, limit=MAX_CASES)):
        if table is not None:
            yield [*_wrapped(table.title, width), *table.plain(width)]


def _disagreements(found: CandidateSet, width: int, page: str) -> Iterator[str]:
    cases = disagreements(found)
    if not cases:
        return
    yield from _wrapped(f"cases on which candidates disagree ({len(cases)} of {len(found.cases)})", width)
    for case in cases[:MAX_CASES]:
        right, wrong, some = (numbered(found, names) or "none" for names in right_and_wrong(found, case))
        words = f"right {right}; wrong {wrong}" + (f"; under some seeds {some}" if some != "none" else "")
        yield from _wrapped(f"  {case.case_id}: {words}", width, indent=4)
    if len(cases) > MAX_CASES:
        yield f"  … and {len(cases) - MAX_CASES} more" + (f" in {printable(page)}" if page else "")


def _verdicts(verdicts: Sequence[Verdict], width: int) -> Iterator[str]:
    for verdict in verdicts:
        yield printable(verdict_sentence(verdict))  # never wrapped: logs are searched for it
        if verdict.reason and verdict.outcome != "not_measured":
            yield from _wrapped(f"  {verdict.reason}", width, indent=2)


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    return textwrap.wrap(printable(text), max(width, 40), subsequent_indent=" " * indent, break_on_hyphens=False)
