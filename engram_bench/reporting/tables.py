"""Tables of cells made from comparisons, laid out by ``tabulate`` for a terminal or a page."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from tabulate import SEPARATING_LINE, DataRow, Line, TableFormat, tabulate

from engram_bench.door import printable
from engram_bench.records import Comparison, Estimate, LedgerEntry, Measure, Split, State
from engram_bench.reporting.words import change_words
from engram_bench.scoring.comparison import MACHINE_UNITS
from engram_bench.scoring.figures import figure, number
from engram_bench.scoring.metrics import METRICS

SPLITS: Mapping[Split, str] = {"seen": "seen prompts", "held_out": "held-out wordings", "control": "controls"}
"""Split → its words in a report; a report never mixes splits."""

TABLED: Mapping[str, Split] = {"accuracy": "seen", "generalization": "held_out"}
"""Metric with a table of its own, a row per category → the split of its ledger counts."""

SECTIONS: Mapping[str, str] = {
    "answers": "behaviour on seen prompts",
    "consistency": "consistency over wordings and sampled repeats",
    "retention": "forgetting: controls and ordinary text",
    "speed": "speed",
}
"""Section → title of its table of measures."""

LONGEST_CELL = 2000
"""Longest text of a cell, in characters."""

_States = Counter[State]

_ROW = DataRow("", "  ", "")
_PLAIN = TableFormat(None, Line("", "-", "  ", ""), None, None, _ROW, _ROW, 0, None)


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows of cells under headers. Title and cells are made printable."""

    title: str
    headers: tuple[str, ...]
    """Text above each column; a line break is kept in a terminal and becomes a space on a page."""
    align: str
    """Letter ``l`` or ``r`` per column; a last column with ``l`` wraps where a terminal is narrow."""
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None = None
    """Last row, set apart from the others; None for a table without a total."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", _cell(self.title))
        object.__setattr__(self, "rows", tuple(tuple(map(_cell, row)) for row in self.rows))
        if self.total is not None:
            object.__setattr__(self, "total", tuple(map(_cell, self.total)))

    def plain(self, width: int | None = None) -> list[str]:
        """Lines for a terminal of *width* columns; None sets no limit. Headers are aligned at the bottom.

        A table that does not fit becomes a list: the first cell of a row, then a line per further cell.
        """
        lines = self._laid_out(self.rows)
        excess = max(map(len, lines)) - width if width else 0
        if excess > 0 and self.align[-1] == "l":
            longest = max(len(row[-1]) for row in (self.headers, *self.rows))
            rows = [part for row in self.rows for part in _wrapped(row, max(12, longest - excess))]
            lines = self._laid_out(rows)
        if width and max(map(len, lines)) > width:
            return [line for row in (*self.rows, *filter(None, [self.total])) for line in self._listed(row, width)]
        return lines

    def _listed(self, row: tuple[str, ...], width: int) -> list[str]:
        """A row over several lines; empty cells are left out."""
        headers = self._flat_headers
        names = max(map(len, headers[1:]), default=0) + 2
        cells = [
            textwrap.wrap(f"  {header:<{names}}{' '.join(cell.split())}", width, subsequent_indent=" " * (names + 2))
            for header, cell in zip(headers[1:], row[1:], strict=True)
            if cell.strip()
        ]
        return [row[0], *(line for cell in cells for line in cell)]

    @property
    def _flat_headers(self) -> list[str]:
        return [header.replace("/\n", "/").replace("\n", " ") for header in self.headers]

    def _laid_out(self, body: Sequence[tuple[str, ...]]) -> list[str]:
        parts = [header.split("\n") for header in self.headers]
        height = max(map(len, parts))
        # Headers go in as rows: tabulate would make every column two wider than its header.
        headers = zip(*([""] * (height - len(part)) + part for part in parts), strict=True)
        rows: list[Sequence[str] | str] = [*headers, SEPARATING_LINE, *body]
        if self.total is not None:
            rows += [SEPARATING_LINE, self.total] if body else [self.total]
        return tabulate(rows, tablefmt=_PLAIN, disable_numparse=True, colalign=self._alignment).splitlines()

    def markdown(self, write: Callable[[str], str] = str) -> str:
        """The table as GitHub-flavoured Markdown with the total in bold; *write* turns a cell's text into Markdown."""
        rows = [[write(cell) for cell in row] for row in self.rows]
        if self.total is not None:
            rows.append([f"**{write(cell)}**" if cell else "" for cell in self.total])
        cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        return tabulate(cells, self._flat_headers, "pipe", disable_numparse=True, colalign=self._alignment)

    @property
    def _alignment(self) -> list[str]:
        return [{"l": "left", "r": "right"}[letter] for letter in self.align]


@dataclass(frozen=True, slots=True)
class _CategoryColumn:
    header: str
    cell: Callable[[Measure, _States], str]


_LEADING = (
    _CategoryColumn("n", lambda measure, _: str(measure.candidate.n if measure.candidate else 0)),
    _CategoryColumn("baseline", lambda measure, _: side_words(measure.baseline, "rate")),
    _CategoryColumn("candidate", lambda measure, _: side_words(measure.candidate, "rate")),
    _CategoryColumn("diff\npp", lambda measure, _: change_words(measure).split(" ")[0]),
)
_WIDE = (
    *_LEADING,
    _CategoryColumn("fixed", lambda _, states: str(states["fixed"])),
    _CategoryColumn("broken", lambda _, states: str(states["broken"])),
    _CategoryColumn("still\nright", lambda _, states: str(states["still_right"])),
    _CategoryColumn("still\nwrong", lambda _, states: str(states["still_wrong"])),
)
_NARROW = (
    *_LEADING,
    _CategoryColumn("fixed/\nbroken", lambda _, states: f"{states['fixed']}/{states['broken']}"),
    _CategoryColumn("still\nright/\nwrong", lambda _, states: f"{states['still_right']}/{states['still_wrong']}"),
)


def category_table(
    comparison: Comparison, metric: str, *, width: int = 200, max_rows: int = 1000
) -> ReportTable | None:
    """A metric of ``TABLED`` per category and in total; None where the metric was not measured.

    The table is fitted into *width* columns: category names are cut to 20 characters, then counts share a column, then
    names are cut to 8. A single category gives only the total.

    Args:
        comparison: Comparison with the metric.
        metric: Key of ``TABLED``.
        width: Columns of the terminal.
        max_rows: Largest number of categories; of more, the ones with the lowest candidate values stay.
    """
    total = comparison.measures.get(metric)
    if total is None:
        return None
    counts = _state_counts(comparison.ledger, TABLED[metric])
    slices = {
        name.removeprefix("category:"): measures[metric]
        for name, measures in comparison.slices.items()
        if name.startswith("category:") and metric in measures
    }
    names = sorted(slices, key=lambda name: _value(slices[name]))[:max_rows] if len(slices) > max_rows else slices
    rows = {name: slices[name] for name in names} if len(slices) > 1 else {}
    title = f"{metric}: {METRICS[metric].meaning} (%, with 95 % interval)"
    if len(rows) < len(slices) and rows:
        title += f"; the weakest {len(rows)} of {len(slices)} categories"

    def table(columns: Sequence[_CategoryColumn], name_width: int) -> ReportTable:
        def row(name: str, measure: Measure, states: _States) -> tuple[str, ...]:
            return (printable(name, name_width), *(column.cell(measure, states) for column in columns))

        return ReportTable(
            title,
            ("category", *(column.header for column in columns)),
            "l" + "r" * len(columns),
            tuple(row(name, measure, counts[name]) for name, measure in rows.items()),
            row("total", total, sum(counts.values(), Counter())),
        )

    longest = max(len(printable(name, 100)) for name in ["category", *rows])
    for columns, shortest in ((_WIDE, 20), (_NARROW, 8)):
        excess = max(map(len, table(columns, longest).plain())) - width
        if longest - max(0, excess) >= min(shortest, longest):
            break
    return table(columns, max(shortest, longest - max(0, excess)))


def section_of(name: str) -> str:
    """The section that shows a measure: a test's name, ``answers`` (behaviour on seen prompts) or ``speed``."""
    metric = METRICS.get(name)
    if metric is None or metric.test == "accuracy":
        return "accuracy" if name == "accuracy" else "answers"
    if metric.test:
        return metric.test
    return "speed" if metric.unit in MACHINE_UNITS else "retention"


def measure_tables(comparison: Comparison, *, skip: Sequence[str] = tuple(TABLED)) -> list[ReportTable]:
    """Tables of all measures except *skip*, one per section that has any."""
    tables = []
    for section, title in SECTIONS.items():
        names = [name for name in comparison.measures if section_of(name) == section and name not in skip]
        if table := measure_table(comparison, title=title, only=names):
            tables.append(table)
    return tables


def measure_table(
    comparison: Comparison,
    *,
    title: str = "other metrics",
    skip: Sequence[str] = tuple(TABLED),
    only: Sequence[str] | None = None,
) -> ReportTable | None:
    """Both sides of all measures except *skip*, or of the measures in *only*, one per row; None without a measure."""
    rows = [
        (
            measure.name,
            str(measure.candidate.n if measure.candidate else 0),
            side_words(measure.baseline, measure.unit),
            side_words(measure.candidate, measure.unit),
            "; ".join(filter(None, (change_words(measure), measure.note))),
        )
        for name, measure in comparison.measures.items()
        if (name not in skip if only is None else name in only)
    ]
    headers = ("metric", "n", "baseline", "candidate", "change")
    return ReportTable(f"{title} (rates in %, with 95 % interval)", headers, "lrrrl", tuple(rows)) if rows else None


def entries(ledger: Sequence[LedgerEntry], state: State) -> dict[Split, list[LedgerEntry]]:
    """Split → its entries in one state; a split without such entries is left out."""
    found = {split: [entry for entry in ledger if (entry.split, entry.state) == (split, state)] for split in SPLITS}
    return {split: part for split, part in found.items() if part}


def ledger_sentences(ledger: Sequence[LedgerEntry]) -> list[str]:
    """One line per split: ``seen prompts: fixed 132, broken 1, still right 0, still wrong 7``."""
    lines = []
    for split, words in SPLITS.items():
        if counts := sum(_state_counts(ledger, split).values(), Counter()):
            states = (f"{state.replace('_', ' ')} {counts[state]}" for state in get_args(State))
            lines.append(f"{words}: {', '.join(states)}")
    return lines


def _cell(text: str) -> str:
    return printable(text, LONGEST_CELL)


def _wrapped(row: tuple[str, ...], width: int) -> list[tuple[str, ...]]:
    """The row with its last cell wrapped at *width* columns into further rows."""
    first, *rest = textwrap.wrap(row[-1], width) or [""]
    return [(*row[:-1], first), *((*[""] * (len(row) - 1), part) for part in rest)]


def side_words(estimate: Estimate | None, unit: str) -> str:
    """A side's value: ``98.5 (95-100)`` for a rate, ``4.0 tokens``; empty for None."""
    if estimate is None:
        return ""
    if unit != "rate":
        return figure(estimate.value, unit)
    if estimate.interval is None:
        return number(estimate.value, unit)
    low, high = (f"{100 * bound:.0f}" for bound in estimate.interval)
    return f"{number(estimate.value, unit)} ({low:>2}–{high:>3})"


def _state_counts(ledger: Sequence[LedgerEntry], split: Split) -> dict[str, _States]:
    """Category → number of its cases in each state."""
    counts: dict[str, _States] = {}
    for entry in ledger:
        if entry.split == split:
            counts.setdefault(entry.category, Counter())[entry.state] += 1
    return counts


def _value(measure: Measure) -> float:
    return measure.candidate.value if measure.candidate else 0.0
