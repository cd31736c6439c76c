"""Changes between two runs, as the lines of a terminal section."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from engram_bench.door import encodable, printable
from engram_bench.records import Comparison, LedgerEntry, Run, State, TrainingRecord
from engram_bench.reporting.tables import SPLITS, TABLED, ReportTable, category_table, entries, measure_table
from engram_bench.reporting.terminal import MAX_CATEGORIES, entry_lines, outside_lines
from engram_bench.reporting.words import LONGEST_WORDS

MAX_ENTRIES = 50
"""Largest number of cases listed per state and split."""

CHANGES: Mapping[State, str] = {
    "broken": "newly broken",
    "fixed": "newly correct",
    "still_right": "correct in both",
    "still_wrong": "wrong in both",
}
"""State in the comparison of two runs → its words; the cases of the first two are listed."""

_SIDES = {"baseline": "older", "candidate": "newer"}


def change_lines(old: Run, new: Run, comparison: Comparison, *, width: int = 80, encoding: str = "utf-8") -> list[str]:
    """The report on two compared runs: newly broken cases first, then newly correct ones, then figures.

    Args:
        old: The older run.
        new: The newer run.
        comparison: ``compare_runs(old, new)``.
        width: Columns of the terminal.
        encoding: Encoding of the stream for the lines; characters that it lacks are replaced.
    """
    blocks: tuple[Iterable[str], ...] = (
        _head(old, new, width),
        _counts(comparison, width),
        *_changed(comparison, width),
        outside_lines(comparison, width),
        *_tables(old, new, comparison, width),
    )
    lines: list[str] = []
    for block in blocks:
        if found := list(block):
            lines += ["", *found] if lines else found
    return [encodable(printable(line.rstrip(), LONGEST_WORDS), encoding) for line in lines]


def differences(old: Run, new: Run) -> dict[str, tuple[str, str]]:
    """Differences in the provenance of two runs: model, backend, device, dtype, adapter or machine → (older, newer)."""
    fields = {
        "model": [f"{p.model} ({p.model_fingerprint[:12]})" for p in (old.provenance, new.provenance)],
        **{
            name: [getattr(run.provenance, name) or "none" for run in (old, new)]
            for name in ("backend", "device", "dtype", "adapter", "machine")
        },
    }
    return {name: (before, after) for name, (before, after) in fields.items() if before != after}


def training_table(old: Run, new: Run) -> ReportTable | None:
    """The trainings of both runs' adapters side by side; None where both runs have the same training, or one has none.

    The table has no ratios, because seconds of two machines cannot be compared.
    """
    if old.training is None or new.training is None or old.training == new.training:
        return None
    columns = [_training_cells(run.training) for run in (old, new) if run.training]
    rows = tuple((name, *(column[name] for column in columns)) for name in columns[0])
    return ReportTable("training: each on its own machine", ("", "older", "newer"), "lll", rows)


def _training_cells(training: TrainingRecord) -> dict[str, str]:
    peak = training.peak_memory_mb
    return {
        "backend": f"{training.backend} ({training.device}, {training.dtype})",
        "machine": training.machine or "not recorded",
        "steps": f"{training.steps}, {training.examples} examples",
        "seconds": f"{training.seconds:.1f}",
        "examples/s": f"{training.examples_per_s:.1f}",
        "tokens/s": f"{training.tokens_per_s:.0f}",
        "peak memory": "" if peak is None else f"{peak:.0f} MB",
        "recall": "" if training.recall is None else f"{100 * training.recall:.1f} %",
    }


def _head(old: Run, new: Run, width: int) -> Iterator[str]:
    for heading, run in (("older", old), ("newer", new)):
        yield from _wrapped(f"{heading:<9}{printable(run.name)}, {printable(run.provenance.started)}", width, 9)
    found = differences(old, new)
    for heading, (before, after) in found.items():
        yield from _wrapped(f"{heading:<9}{printable(before)} → {printable(after)}", width, 9)
    if "model" in found:
        yield from _wrapped("different models: the changes do not come from an adapter alone", width)


def _counts(comparison: Comparison, width: int) -> Iterator[str]:
    for split, words in SPLITS.items():
        states = Counter(entry.state for entry in comparison.ledger if entry.split == split)
        if states:
            counts = ", ".join(f"{CHANGES[state]} {states[state]}" for state in CHANGES)
            yield from _wrapped(f"{words}: {counts}", width, 2)
    if not comparison.ledger:
        yield "no case is part of both runs"


def _changed(comparison: Comparison, width: int) -> Iterator[Iterable[str]]:
    def answers(entry: LedgerEntry) -> str:
        third = max(width, 60) // 3
        was, now = printable(entry.baseline, third), printable(entry.candidate, third)
        return f"expected '{printable(entry.expected, third)}', was '{was}', now '{now}'"

    for state in ("broken", "fixed"):
        for split, found in entries(comparison.ledger, state).items():
            title = f"{CHANGES[state]}, {SPLITS[split]} ({len(found)})"
            yield entry_lines(title, found, answers, width=width, limit=MAX_ENTRIES)


def _tables(old: Run, new: Run, comparison: Comparison, width: int) -> Iterator[Iterable[str]]:
    tables = [category_table(comparison, metric, width=width, max_rows=MAX_CATEGORIES) for metric in TABLED]
    for table in (*tables, measure_table(comparison), training_table(old, new)):
        if table is not None:
            yield [*_wrapped(table.title, width), *_renamed(table).plain(width)]


def _renamed(table: ReportTable) -> ReportTable:
    """The table with ``older`` and ``newer`` in place of the names of the sides."""
    return replace(table, headers=tuple(_SIDES.get(header, header) for header in table.headers))


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, max(width, 40), subsequent_indent=" " * indent, break_on_hyphens=False)
