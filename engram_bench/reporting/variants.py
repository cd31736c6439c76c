"""Arms as a table and as one plot: what was learned against what was kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engram_bench.records import Estimate
from engram_bench.reporting.plots import WIDTH, svg, tag, text
from engram_bench.reporting.tables import Table
from engram_bench.scoring.figures import number
from engram_bench.scoring.variants import ArmRow


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    cell: Callable[[ArmRow], str]


def _rate(field: str) -> Callable[[ArmRow], str]:
    def cell(row: ArmRow) -> str:
        found: Estimate | None = getattr(row, field)
        return number(found.value, "rate") if found else ""

    return cell


_COLUMNS = (
    _Column("patterns", lambda row: f"{row.patterns:,}"),
    _Column("recall\n%", _rate("recall")),
    _Column("wrapped\n%", _rate("wrapped")),
    _Column("held-out\n%", _rate("held_out")),
    _Column("consistent\n%", _rate("consistency")),
    _Column("retention\n%", _rate("retention")),
    _Column("agreement\n%", _rate("agreement")),
    _Column("perplexity\n%", lambda row: f"{100 * (row.perplexity.value - 1):+.2f}" if row.perplexity else ""),
    _Column("fires\n%", _rate("fires")),
    _Column("stored", lambda row: _count(row.stored)),
    _Column("touched", lambda row: _count(row.touched)),
    _Column("training\ns", lambda row: f"{row.train_s:.0f}" if row.steps else ""),
    _Column("decode\nratio", lambda row: f"{row.decode_ratio.value:.2f}" if row.decode_ratio else ""),
)

LINE = 15
"""Least distance of two labels, in the plot's units."""
LEGEND = (
    "recall: prompts as written; wrapped: the same in words never trained on; consistent: pairs of wordings with the same "
    "answer; retention: controls known before and after; agreement: controls answered as the bare model does; perplexity: "
    "change on ordinary text; fires: share of answer places on controls where the adapter takes part; stored, touched: "
    "trained values, and those that one token reads; decode ratio: tokens a second over the bare model's, attached."
)


def arms_table(rows: Sequence[ArmRow]) -> Table:
    """A row per arm; columns that nothing was measured for are left out."""
    columns = [column for column in _COLUMNS if any(column.cell(row) for row in rows)]
    return Table(
        "arms",
        ("arm", *(column.header for column in columns)),
        "l" + "r" * len(columns),
        tuple((row.arm, *(column.cell(row) for column in columns)) for row in rows),
    )


def counts_words(rows: Sequence[ArmRow]) -> str:
    """How many questions are behind each share: ``143 prompts, 286 held-out wordings, 74 controls``."""
    words = {
        "recall": "prompts",
        "held_out": "held-out wordings",
        "agreement": "controls",
        "retention": "known controls",
    }
    found = {field: {each.n for row in rows if (each := getattr(row, field))} for field in words}
    return ", ".join(f"{' and '.join(map(str, sorted(n)))} {words[field]}" for field, n in found.items() if n)


def arms_markdown(rows: Sequence[ArmRow], origin: str) -> str:
    """The table with its legend, for a page."""
    return f"{arms_table(rows).markdown()}\n\nn: {counts_words(rows)}.\n{origin}\n\n{LEGEND}\n"


def arms_plot(rows: Sequence[ArmRow]) -> str:
    """Held-out wordings (up) against agreement on controls (right), a line per arm over its sizes; empty without both."""
    placed = [row for row in rows if row.held_out and row.agreement]
    if not placed:
        return ""
    height, left, right, upper, lower = 420, 64, 40, 18, 372

    def x(row: ArmRow) -> float:
        return left + (WIDTH - left - right) * (row.agreement.value if row.agreement else 0.0)

    def y(row: ArmRow) -> float:
        return lower - (lower - upper) * (row.held_out.value if row.held_out else 0.0)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        at_x, at_y = left + (WIDTH - left - right) * tick, lower - (lower - upper) * tick
        parts += [
            tag("line", x1=left, x2=WIDTH - right, y1=at_y, y2=at_y, class_="grid"),
            text(f"{100 * tick:.0f} %", left - 10, at_y + 4, "end muted"),
            text(f"{100 * tick:.0f} %", at_x, lower + 20, "middle muted"),
        ]
    parts += [
        text("held-out wordings right ↑", left, upper - 4, "muted"),
        text("controls answered as before →", WIDTH - right, lower + 38, "end muted"),
    ]
    several = len({row.patterns for row in placed}) > 1
    arms: defaultdict[str, list[ArmRow]] = defaultdict(list)
    for row in placed:
        arms[row.arm].append(row)
    for line in arms.values():
        line.sort(key=lambda row: row.patterns)
        if len(line) > 1:
            parts.append(tag("polyline", points=" ".join(f"{x(row):.1f},{y(row):.1f}" for row in line), class_="curve"))
    sides: defaultdict[bool, list[ArmRow]] = defaultdict(list)
    for row in sorted(placed, key=y):
        parts.append(tag("circle", cx=x(row), cy=y(row), r=4.5, class_="baseline" if not row.adapter else "candidate"))
        sides[x(row) > WIDTH / 2].append(row)
    for is_right, side in sides.items():
        for row, at in zip(side, _apart([y(row) + 4 for row in side], upper + 4, lower + 4), strict=True):
            label = f"{row.arm}, {row.patterns:,}" if several else row.arm
            parts.append(text(label, x(row) + (-10 if is_right else 10), at, "end halo" if is_right else "halo"))
    described = "; ".join(
        f"{row.arm} with {row.patterns} patterns: held-out {_rate('held_out')(row)} %, agreement {_rate('agreement')(row)} %"
        for row in placed
    )
    return svg("Arms: what was learned against what was kept", described, height, parts)


def _count(values: int) -> str:
    if not values:
        return ""
    return f"{values / 1e6:.2f} M" if values >= 1e6 else f"{values / 1e3:.1f} k"


def _apart(wanted: Sequence[float], highest: float, lowest: float) -> list[float]:
    """Heights of labels from the top down, a line apart, as near to where they are *wanted* as they can be between two bounds.

    More labels than fit between the bounds go below the lower one.
    """
    from scipy.optimize import isotonic_regression

    above = [LINE * place for place in range(len(wanted))]  # what must be between a label and the first one
    packed = isotonic_regression([at - least for at, least in zip(wanted, above, strict=True)]).x
    return [max(highest, min(at, lowest - above[-1])) + least for at, least in zip(packed.tolist(), above, strict=True)]
