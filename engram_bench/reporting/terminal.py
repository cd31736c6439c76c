"""The comparison as the lines of a terminal section."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from engram_bench.records import Comparison, LedgerEntry, Run, State, Verdict
from engram_bench.reporting.clean import encodable, printable
from engram_bench.reporting.guard_report import guard_sentences
from engram_bench.reporting.speed_table import speed_table, timed_metrics
from engram_bench.reporting.sweep_report import sweep_sentence, sweep_table
from engram_bench.reporting.tables import SPLITS, TABLED, category_table, entries, ledger_sentences, measure_tables
from engram_bench.reporting.words import outside, run_facts, verdict_sentence

MAX_CATEGORIES = 40
MAX_ENTRIES = 10
"""Ledger lines per state and split; the page has the rest."""

STATES: Mapping[State, str] = {
    "broken": "broken",
    "still_wrong": "still wrong",
    "fixed": "fixed",
    "still_right": "still right",
}
"""In the order they are listed: what needs a look first."""

SHOWN: Mapping[str, tuple[State, ...]] = {
    "broken": ("broken",),
    "misses": ("broken", "still_wrong"),
    "all": tuple(STATES),
}
"""What ``--engram-show`` asks for → the states whose cases are listed; ``all`` cuts no list."""


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
    """What a user reads at the end of a session, without the section's title line.

    From where the figures come from to the verdicts, which are last because that is where a terminal stops: provenance,
    sanity guards, a table per category, other measures, listed cases, cases without a score, gates.

    Args:
        run: For its provenance, training record and timing.
        comparison: What to print.
        verdicts: Of the gates, in their order.
        width: Columns of the terminal; at least 40 are used, and neither a verdict nor a case's place is broken in two.
        encoding: Of the stream that the lines go to; what it lacks is replaced.
        report: Path of the page that holds everything, named where a list is cut.
        show: Which cases are listed, a key of ``SHOWN``.
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
    return [encodable(line.rstrip(), encoding) for line in lines]


def entry_lines(
    title: str,
    found: Sequence[LedgerEntry],
    answers: Callable[[LedgerEntry], str],
    *,
    width: int,
    more: str = "",
    limit: int,
) -> Iterator[str]:
    """The title, then each entry's place with its *answers*, on the next line where one is too narrow.

    Beyond *limit* entries, only how many there are, and that *more* (a path) has them.
    """
    yield title
    for entry in found[:limit]:
        place = printable(f"  {entry.source} {entry.case_id.partition('/')[2]}:")
        shown = answers(entry)
        if len(place) + 1 + len(shown) <= width:
            yield f"{place} {shown}"
        else:
            yield from (place, f"    {printable(shown, max(width, 20) - 4)}")
    if len(found) > limit:
        yield f"  … and {len(found) - limit} more" + (f" in {printable(more)}" if more else "")


def line_colour(line: str) -> str:
    """``green``, ``red`` or nothing for a line of a comparison: verdicts and lists of broken cases stand out."""
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
    for heading, fact in run_facts(run).items():
        yield from _wrapped(f"{heading:<9}{printable(fact)}", width, indent=9)


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
            # A control that nobody knows is no news.
            if show == "all" or (state, split) != ("still_wrong", "control"):
                title = f"{STATES[state]}, {SPLITS[split]} ({len(found)})"
                yield entry_lines(title, found, answers, width=width, more=report, limit=limit)


def outside_lines(comparison: Comparison, width: int) -> Iterator[str]:
    """Ids of the cases that are in no count, a paragraph per reason."""
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
