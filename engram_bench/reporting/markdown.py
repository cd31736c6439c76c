"""The comparison as one Markdown page: ``reports/latest.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from engram_bench.door import printable
from engram_bench.records import Comparison, LedgerEntry, Run, State, Verdict
from engram_bench.reporting.guard_report import guard_table
from engram_bench.reporting.speed_table import speed_table, timed_metrics
from engram_bench.reporting.sweep_report import sweep_sentence, sweep_table
from engram_bench.reporting.tables import SPLITS, TABLED, ReportTable, category_table, entries, measure_tables
from engram_bench.reporting.words import OUTCOMES, outside, run_lines

MAX_ENTRIES = 500
"""Largest number of ledger rows per state and split; ``latest.json`` has the rest."""

STATES: dict[State, str] = {"broken": "Broken", "still_wrong": "Still wrong", "fixed": "Fixed"}
"""States whose cases are listed, the ones to look at first."""


def markdown_report(
    run: Run,
    comparison: Comparison,
    verdicts: Sequence[Verdict],
    *,
    states: Sequence[State] = tuple(STATES),
    max_entries: int = MAX_ENTRIES,
) -> str:
    """The whole comparison as GitHub-flavoured Markdown that ends with a newline.

    Names, prompts and answers are shown as code, so that nothing in them becomes markup, a link or a mention.

    Args:
        run: Run with its provenance, training record and guards.
        comparison: Comparison of the run's sides.
        verdicts: Verdicts of the gates.
        states: States whose cases are listed.
        max_entries: Largest number of cases listed per state and split.
    """
    blocks = [
        f"# engram-bench: {code(run.provenance.adapter or 'bare model')} against {code(run.provenance.model)}",
        *verdict_blocks(verdicts),
        *_guards(run),
        *_tables(comparison, verdicts),
        *_sweep(run),
        *_outside(comparison, max_entries),
        *_ledger(comparison, states, max_entries),
        "## Where the figures come from",
        "\n".join(f"- {heading}: {code(words)}" for heading, words in run_lines(run).items()),
    ]
    return "\n\n".join(blocks) + "\n"


def code(text: str, limit: int = 300) -> str:
    """*text* as a code span, whatever backticks the text holds; an empty text becomes a single space."""
    shown = printable(text, limit) or " "
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def escaped(text: str) -> str:
    """*text* with every character of markup escaped; underscores inside words need no escape."""
    return re.sub(r"([\\`*<>\[\]#~&@]|\b_|_\b)", r"\\\1", printable(text))


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def verdict_blocks(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A heading and a table of verdicts; nothing without any."""
    if not verdicts:
        return
    yield "## Gates"
    rows = tuple(
        (
            code(verdict.gate),
            f"**{OUTCOMES[verdict.outcome]}**",
            escaped(verdict.measured),
            escaped(verdict.wanted),
            "" if verdict.p_value is None else f"{verdict.p_value:.2g}",
            escaped(verdict.reason),
        )
        for verdict in verdicts
    )
    yield ReportTable("", ("gate", "verdict", "measured", "wanted", "p", "reason"), "llllrl", rows).markdown()


def _guards(run: Run) -> Iterator[str]:
    if table := guard_table(run):
        yield f"## {_capitalised(escaped(table.title))}"
        yield table.markdown(escaped)


def _tables(comparison: Comparison, verdicts: Sequence[Verdict]) -> Iterator[str]:
    others = measure_tables(comparison, skip=(*TABLED, *timed_metrics(comparison)))
    tables = (category_table(comparison, metric) for metric in TABLED)
    for table in (*tables, *others, speed_table(comparison, verdicts)):
        if table is not None:
            yield f"## {_capitalised(escaped(table.title))}"
            yield table.markdown(escaped)


def _sweep(run: Run) -> Iterator[str]:
    if table := sweep_table(run):
        yield f"## {_capitalised(escaped(table.title))}"
        yield table.markdown(escaped)
        yield escaped(sweep_sentence(run))
        yield "![Rates over training steps](plots/sweep.svg)"


def _outside(comparison: Comparison, max_entries: int) -> Iterator[str]:
    for words, ids in outside(comparison).items():
        yield f"## {_capitalised(words)} ({len(ids)})"
        yield ", ".join(map(code, ids[:max_entries])) + (" …" if len(ids) > max_entries else "")


def _ledger(comparison: Comparison, states: Sequence[State], max_entries: int) -> Iterator[str]:
    for state in states:
        for split, found in entries(comparison.ledger, state).items():
            yield f"## {STATES[state]}: {SPLITS[split]} ({len(found)})"
            yield _entry_table(found[:max_entries]).markdown()
            if len(found) > max_entries:
                yield f"… and {len(found) - max_entries} more in `latest.json`"


def _answer(text: str, reasoning: str) -> str:
    """An answer, and the reasoning that came before it."""
    return f"{code(text)} after {code(reasoning)}" if reasoning else code(text)


def _entry_table(found: Sequence[LedgerEntry]) -> ReportTable:
    rows = tuple(
        (
            *map(code, (entry.case_id, entry.prompt, entry.expected)),
            _answer(entry.baseline, entry.baseline_reasoning),
            _answer(entry.candidate, entry.candidate_reasoning),
            code(str(entry.source)),
        )
        for entry in found
    )
    return ReportTable("", ("case", "prompt", "expected", "baseline", "candidate", "where"), "llllll", rows)
