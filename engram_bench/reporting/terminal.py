"""The comparison as the lines of a terminal section."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from engram_bench.records import Comparison, LedgerEntry, Run, State, Verdict
from engram_bench.reporting.clean import encodable, printable
from engram_bench.reporting.tables import SPLITS, TABLED, category_table, entries, ledger_sentences, measure_table
from engram_bench.reporting.words import outside, run_facts, verdict_sentence

MAX_CATEGORIES = 40
MAX_ENTRIES = 10
"""Ledger lines per state and split; the page has the rest."""

STATES: Mapping[State, str] = {"broken": "broken", "still_wrong": "still wrong"}
"""States whose cases are listed."""


def comparison_lines(
    run: Run,
    comparison: Comparison,
    verdicts: Sequence[Verdict],
    *,
    width: int = 80,
    encoding: str = "utf-8",
    report: str = "",
) -> list[str]:
    """What a user reads at the end of a session, without the section's title line.

    From where the figures come from to the verdicts, which are last because that is where a terminal stops: provenance,
    a table per category, other measures, broken and still wrong cases, cases without a score, gates.

    Args:
        run: For its provenance, training record and timing.
        comparison: What to print.
        verdicts: Of the gates, in their order.
        width: Columns of the terminal; at least 60 are used, and a verdict is never broken in two.
        encoding: Of the stream that the lines go to; what it lacks is replaced.
        report: Path of the page that holds everything, named where a list is cut.
    """
    blocks = (
        _provenance(run, width),
        *_tables(comparison, width),
        *_ledger(comparison, width, report),
        _outside(comparison, width),
        _verdicts(verdicts, width),
    )
    lines: list[str] = []
    for block in blocks:
        if found := list(block):
            lines += ["", *found] if lines else found
    return [encodable(line.rstrip(), encoding) for line in lines]


def _provenance(run: Run, width: int) -> Iterator[str]:
    for heading, fact in run_facts(run).items():
        yield from _wrapped(f"{heading:<9}{printable(fact)}", width, indent=9)


def _tables(comparison: Comparison, width: int) -> Iterator[Iterable[str]]:
    tables = [category_table(comparison, metric, width=width, max_rows=MAX_CATEGORIES) for metric in TABLED]
    for table in (*tables, measure_table(comparison)):
        if table is not None:
            yield [*_wrapped(table.title, width), *table.plain(width)]


def _ledger(comparison: Comparison, width: int, report: str) -> Iterator[Iterable[str]]:
    yield ledger_sentences(comparison.ledger)
    for state, words in STATES.items():
        for split, found in entries(comparison.ledger, state).items():
            if (state, split) != ("still_wrong", "control"):  # a control that nobody knows is no news
                yield _entry_lines(f"{words}, {SPLITS[split]} ({len(found)})", found, width, report)


def _entry_lines(title: str, found: Sequence[LedgerEntry], width: int, report: str) -> Iterator[str]:
    yield title
    for entry in found[:MAX_ENTRIES]:
        place = printable(f"  {entry.source} {entry.case_id.partition('/')[2]}:")
        answers = f"expected '{printable(entry.expected, width // 2)}', found '{printable(entry.candidate, width)}'"
        if len(place) + 1 + len(answers) <= width:
            yield f"{place} {answers}"
        else:
            yield from (place, f"    {printable(answers, width - 4)}")
    if len(found) > MAX_ENTRIES:
        yield f"  … and {len(found) - MAX_ENTRIES} more" + (f" in {printable(report)}" if report else "")


def _outside(comparison: Comparison, width: int) -> Iterator[str]:
    for words, ids in outside(comparison).items():
        more = f" … and {len(ids) - MAX_ENTRIES} more" if len(ids) > MAX_ENTRIES else ""
        listed = ", ".join(map(printable, ids[:MAX_ENTRIES]))
        yield from _wrapped(f"{words} ({len(ids)}): {listed}{more}", width, indent=2)


def _verdicts(verdicts: Sequence[Verdict], width: int) -> Iterator[str]:
    for verdict in verdicts:
        yield printable(verdict_sentence(verdict))  # never wrapped: logs are searched for it
        if verdict.reason and verdict.outcome != "not_measured":
            yield from _wrapped(f"  {printable(verdict.reason)}", width, indent=2)


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        text, max(width, 60), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
