"""The comparison as the lines of a terminal section."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from engram_bench.door import encodable, printable
from engram_bench.records import Comparison, LedgerEntry, Run, State, Verdict
from engram_bench.reporting.guard_report import guard_sentences
from engram_bench.reporting.speed_table import speed_table, timed_metrics
from engram_bench.reporting.sweep_report import sweep_sentence, sweep_table
from engram_bench.reporting.tables import SPLITS, TABLED, category_table, entries, ledger_sentences, measure_tables
from engram_bench.reporting.words import LONGEST_WORDS, outside, run_lines, verdict_sentence

MAX_CATEGORIES = 40
"""Largest number of categories in a table."""
MAX_ENTRIES = 10
"""Largest number of ledger lines per state and split; the page has the rest."""

STATES: Mapping[State, str] = {
    "broken": "broken",
    "still_wrong": "still wrong",
    "fixed": "fixed",
    "still_right": "still right",
}
"""State → its words, in order of listing: the states to look at first."""

SHOWN: Mapping[str, tuple[State, ...]] = {
    "broken": ("broken",),
    "misses": ("broken", "still_wrong"),
    "all": tuple(STATES),
}
"""Value of ``--engram-show`` → the states whose cases are listed; ``all`` cuts no list."""


def comparison_lines(
    run: Run,
    comparison: Comparison,
    verdicts: Sequence[Verdict],
    *,
    width: int = 80,
    encoding: str = "utf-8",
    report: str = "",
    show: str = "misses",
) -> list[str]:
    """The report at the end of a session, without the section's title line.

    The parts are provenance, sanity guards, tables per category, other measures, listed cases, cases without a score, and
    gates. The verdicts of the gates are last, because a terminal shows the last lines.

    Args:
        run: Run with its provenance, training record and timing.
        comparison: Comparison of the run's sides.
        verdicts: Verdicts of the gates, in order.
        width: Columns of the terminal, of which at least 40 are used; no verdict and no source line is broken in two.
        encoding: Encoding of the stream for the lines; characters that it lacks are replaced.
        report: Path of the page with the full lists, named where a list is cut.
        show: Key of ``SHOWN`` that says which cases are listed.
    """
    blocks = (
        _provenance(run, width),
        _guards(run, width),
        *_tables(comparison, verdicts, width),
        *_sweep(run, width),
        *_ledger(comparison, width, report, show),
        outside_lines(comparison, width),
        _verdicts(verdicts, width),
    )
    lines: list[str] = []
    for block in blocks:
        if found := list(block):
            lines += ["", *found] if lines else found
    return [encodable(printable(line.rstrip(), LONGEST_WORDS), encoding) for line in lines]


def entry_lines(
    title: str,
    found: Sequence[LedgerEntry],
    answers: Callable[[LedgerEntry], str],
    *,
    width: int,
    more: str = "",
    limit: int,
) -> Iterator[str]:
    """Lines of a list of cases: the title, then the source line and id of each case with its answers.

    Answers that do not fit go to a line of their own.

    Args:
        title: First line.
        found: Cases to list.
        answers: Function from a case to its answers in words.
        width: Columns of the terminal.
        more: Path of the page with the full list; empty where there is none.
        limit: Largest number of cases listed; a last line counts the others.
    """
    yield title
    for entry in found[:limit]:
        named = printable(f"  {entry.source} {entry.case_id.partition('/')[2]}:")
        shown = answers(entry)
        if len(named) + 1 + len(shown) <= width:
            yield f"{named} {shown}"
        else:
            yield from (named, f"    {printable(shown, max(width, 20) - 4)}")
    if len(found) > limit:
        yield f"  … and {len(found) - limit} more" + (f" in {printable(more)}" if more else "")


def line_colour(line: str) -> str:
    """Colour of a line of a report: ``green`` or ``red`` for verdicts and lists of broken cases, else empty."""
    if line.startswith("gate passed"):
        return "green"
    return (
        "red"
        if line.startswith(
            ("gate failed", "gate insufficient", "guard broken", "broken,", "newly broken,", "not scored")
        )
        else ""
    )


def _provenance(run: Run, width: int) -> Iterator[str]:
    for heading, words in run_lines(run).items():
        yield from _wrapped(f"{heading:<9}{printable(words)}", width, indent=9)


def _guards(run: Run, width: int) -> Iterator[str]:
    for sentence in guard_sentences(run):
        yield from _wrapped(printable(sentence), width, indent=2)


def _tables(comparison: Comparison, verdicts: Sequence[Verdict], width: int) -> Iterator[Iterable[str]]:
    tables = [category_table(comparison, metric, width=width, max_rows=MAX_CATEGORIES) for metric in TABLED]
    others = measure_tables(comparison, skip=(*TABLED, *timed_metrics(comparison)))
    for table in (*tables, *others, speed_table(comparison, verdicts)):
        if table is not None:
            yield [*_wrapped(table.title, width), *table.plain(width)]


def _sweep(run: Run, width: int) -> Iterator[Iterable[str]]:
    if table := sweep_table(run):
        yield [*_wrapped(table.title, width), *table.plain(width), *_wrapped(sweep_sentence(run), width)]


def _ledger(comparison: Comparison, width: int, report: str, show: str) -> Iterator[Iterable[str]]:
    def answers(entry: LedgerEntry) -> str:
        return f"expected '{printable(entry.expected, width // 2)}', found '{printable(entry.candidate, width)}'"

    limit = sys.maxsize if show == "all" else MAX_ENTRIES
    yield [line for text in ledger_sentences(comparison.ledger) for line in _wrapped(text, width, indent=2)]
    for state in SHOWN[show]:
        for split, found in entries(comparison.ledger, state).items():
            # A control that neither side answers correctly is no news.
            if show == "all" or (state, split) != ("still_wrong", "control"):
                title = f"{STATES[state]}, {SPLITS[split]} ({len(found)})"
                yield entry_lines(title, found, answers, width=width, more=report, limit=limit)


def outside_lines(comparison: Comparison, width: int) -> Iterator[str]:
    """Ids of the cases that no count includes, a paragraph per reason."""
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
        text, max(width, 40), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
