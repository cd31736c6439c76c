"""The sweep over checkpoints as a table, a sentence and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engram_bench.records import Estimate, Run, SweepPoint
from engram_bench.reporting.plots import WIDTH, svg, tag, text
from engram_bench.reporting.tables import ReportTable
from engram_bench.scoring.figures import counts, number
from engram_bench.scoring.sweep import RULE, best

CURVES: Mapping[str, str] = {"recall": "recall", "held_out": "held-out", "retention": "retention"}
"""Field of a checkpoint's rates → its words."""
DASHES = {"recall": "none", "held_out": "7 4", "retention": "2 4"}
"""Field → dash pattern of its curve."""


def sweep_table(run: Run) -> ReportTable | None:
    """A row per checkpoint; None without a sweep."""
    if not run.sweep:
        return None
    picked = best(run.sweep)
    rows = tuple(
        (
            str(point.step),
            *(_cell(getattr(point, field)) for field in CURVES),
            number(point.mean, "rate"),
            "best" if point is picked else "",
        )
        for point in run.sweep
    )
    title = "checkpoints: recall, held-out wordings and retention (%, with 95 % interval)"
    return ReportTable(title, ("step", *CURVES.values(), "mean", ""), "rrrrrl", rows)


def sweep_sentence(run: Run) -> str:
    """The best checkpoint, the rule behind the choice, and how to use the checkpoint; empty without a sweep."""
    picked = best(run.sweep)
    if picked is None:
        return ""
    folder = run.provenance.adapter if picked.checkpoint == "." else f"{run.provenance.adapter}/{picked.checkpoint}"
    return f"best checkpoint: step {picked.step} ({RULE}); use it with --engram-adapter=PATH of {folder}"


def sweep_plot(points: Sequence[SweepPoint]) -> str:
    """The three rates over training steps, one curve each, as SVG; empty for fewer than two checkpoints."""
    if len(points) < 2:
        return ""
    height, left, right, upper, lower = 280, 64, 120, 18, 238
    first, last = points[0].step, points[-1].step

    def x(step: float) -> float:
        return left + (WIDTH - left - right) * (step - first) / ((last - first) or 1)

    def y(share: float) -> float:
        return lower - (lower - upper) * share

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            tag("line", x1=left, x2=WIDTH - right, y1=y(tick), y2=y(tick), class_="grid"),
            text(f"{100 * tick:.0f} %", left - 10, y(tick) + 4, "end muted"),
        ]
    parts += [text(str(point.step), x(point.step), lower + 20, "middle muted") for point in points]
    parts.append(text("step", WIDTH - right, lower + 36, "end muted"))
    placed: list[float] = []
    for field, words in CURVES.items():
        found = [(point.step, rate.value) for point in points if (rate := getattr(point, field)) is not None]
        if not found:
            continue
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in found)
        parts.append(tag("polyline", points=line, class_="curve", stroke_dasharray=DASHES[field]))
        parts += [tag("circle", cx=x(step), cy=y(value), r=3.5, class_="candidate") for step, value in found]
        label = y(found[-1][1]) + 4
        while any(abs(label - other) < 15 for other in placed):
            label += 15
        placed.append(label)
        parts.append(text(words, WIDTH - right + 12, label, ""))
    if picked := best(points):
        parts.insert(0, tag("line", x1=x(picked.step), x2=x(picked.step), y1=upper, y2=lower, class_="zero"))
    title = f"Checkpoints of steps {first} to {last}"
    return svg(title, "Recall, held-out accuracy and retention over training steps.", height, parts)


def _cell(rate: Estimate | None) -> str:
    if rate is None:
        return ""
    low, high = rate.interval or (rate.value, rate.value)
    return f"{number(rate.value, 'rate')} ({100 * low:.0f}–{100 * high:.0f}, {counts(rate)})"
