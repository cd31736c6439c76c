"""VariantTable as a table and as one plot: what was learned against what was kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from engram_bench.door import printable
from engram_bench.records import Estimate
from engram_bench.reporting.markdown import escaped
from engram_bench.reporting.plots import WIDTH, svg, tag, text
from engram_bench.reporting.tables import ReportTable
from engram_bench.scoring.figures import number
from engram_bench.scoring.variants import VariantRow


def _rate(field: str) -> Callable[[VariantRow], str]:
    def cell(row: VariantRow) -> str:
        found: Estimate | None = getattr(row, field)
        return number(found.value, "rate") if found else ""

    return cell


_COLUMNS: Mapping[str, Callable[[VariantRow], str]] = {
    "patterns": lambda row: f"{row.patterns:,}",
    "recall\n%": _rate("recall"),
    "wrapped\n%": _rate("wrapped"),
    "held-out\n%": _rate("held_out"),
    "consistent\n%": _rate("consistency"),
    "retention\n%": _rate("retention"),
    "agreement\n%": _rate("agreement"),
    "perplexity\n%": lambda row: f"{100 * (row.perplexity.value - 1):+.2f}" if row.perplexity else "",
    "fires\n%": _rate("fires"),
    "stored": lambda row: _count(row.stored),
    "touched": lambda row: _count(row.touched),
    "training\ns": lambda row: f"{row.train_s:.0f}" if row.steps else "",
    "decode\nratio": lambda row: f"{row.decode_ratio.value:.2f}" if row.decode_ratio else "",
}
"""Header of a column → text of its cell."""

LINE = 15
"""Least distance of two labels, in the plot's units."""
LEGEND = (
    "recall: prompts as written; wrapped: the same prompts with other words around them; consistent: pairs of wordings with "
    "the same answer; retention: controls still answered correctly; agreement: controls with the same answer as the bare "
    "model; perplexity: change on ordinary text; fires: share of the controls' answer positions at which the adapter takes "
    "part; stored, touched: trained values, and those that one token uses; decode ratio: tokens per second compared with "
    "the bare model."
)


def variants_table(rows: Sequence[VariantRow]) -> ReportTable:
    """A row per variant; columns without any measured value are left out."""
    columns = {header: cell for header, cell in _COLUMNS.items() if any(map(cell, rows))}
    return ReportTable(
        "variants",
        ("variant", *columns),
        "l" + "r" * len(columns),
        tuple((row.variant, *(cell(row) for cell in columns.values())) for row in rows),
    )


def counts_words(rows: Sequence[VariantRow]) -> str:
    """The number of questions behind each share: ``143 prompts, 286 held-out wordings, 74 controls``."""
    words = {
        "recall": "prompts",
        "held_out": "held-out wordings",
        "agreement": "controls",
        "retention": "known controls",
    }
    found = {field: {each.n for row in rows if (each := getattr(row, field))} for field in words}
    return ", ".join(f"{' and '.join(map(str, sorted(n)))} {words[field]}" for field, n in found.items() if n)


def variants_markdown(rows: Sequence[VariantRow], origin: str) -> str:
    """The table as Markdown with the number of questions, the *origin* of the figures and a legend."""
    return f"{variants_table(rows).markdown(escaped)}\n\nn: {counts_words(rows)}.\n{printable(origin)}\n\n{LEGEND}\n"


def variants_plot(rows: Sequence[VariantRow]) -> str:
    """Held-out accuracy (up) against agreement on controls (right) as SVG, with a line per variant over its sizes.

    Empty where no row has both figures.
    """
    placed = [row for row in rows if row.held_out and row.agreement]
    if not placed:
        return ""
    height, left, right, upper, lower = 420, 64, 40, 18, 372

    def x(row: VariantRow) -> float:
        return left + (WIDTH - left - right) * (row.agreement.value if row.agreement else 0.0)

    def y(row: VariantRow) -> float:
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
        text("held-out wordings answered correctly ↑", left, upper - 4, "muted"),
        text("controls answered as before →", WIDTH - right, lower + 38, "end muted"),
    ]
    several = len({row.patterns for row in placed}) > 1
    lines: defaultdict[str, list[VariantRow]] = defaultdict(list)
    for row in placed:
        lines[row.variant].append(row)
    for line in lines.values():
        line.sort(key=lambda row: row.patterns)
        if len(line) > 1:
            parts.append(tag("polyline", points=" ".join(f"{x(row):.1f},{y(row):.1f}" for row in line), class_="curve"))
    sides: defaultdict[bool, list[VariantRow]] = defaultdict(list)
    for row in sorted(placed, key=y):
        parts.append(tag("circle", cx=x(row), cy=y(row), r=4.5, class_="baseline" if not row.adapter else "candidate"))
        sides[x(row) > WIDTH / 2].append(row)
    for is_right, side in sides.items():
        for row, at in zip(side, apart([y(row) + 4 for row in side], upper + 4, lower + 4), strict=True):
            label = f"{row.variant}, {row.patterns:,}" if several else row.variant
            parts.append(text(label, x(row) + (-10 if is_right else 10), at, "end halo" if is_right else "halo"))
    described = "; ".join(
        f"{row.variant} with {row.patterns} patterns: held-out {_rate('held_out')(row)} %, agreement {_rate('agreement')(row)} %"
        for row in placed
    )
    return svg("Variants: what was learned against what was kept", described, height, parts)


def _count(values: int) -> str:
    if not values:
        return ""
    return f"{values / 1e6:.2f} M" if values >= 1e6 else f"{values / 1e3:.1f} k"


def apart(wanted: Sequence[float], highest: float, lowest: float) -> list[float]:
    """Heights of labels from the top down, each a line apart and as near to its *wanted* height as the two bounds allow.

    Labels that do not fit between the bounds go below the lower one.
    """
    from scipy.optimize import isotonic_regression

    above = [LINE * index for index in range(len(wanted))]  # least distance between a label and the first one
    packed = isotonic_regression([at - least for at, least in zip(wanted, above, strict=True)]).x
    return [max(highest, min(at, lowest - above[-1])) + least for at, least in zip(packed.tolist(), above, strict=True)]
