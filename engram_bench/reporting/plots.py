"""Plots as SVG: on the page, coloured by its style sheet, and as files with a style of their own.

Every text is escaped and made printable, and only measured values are drawn. A plot is one ``<svg>`` with a title and a
description, so that a screen reader can read it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from xml.sax.saxutils import escape, quoteattr

from engram_bench.door import printable
from engram_bench.records import Comparison, Estimate, Measure, TrainingRecord
from engram_bench.reporting.tables import section_of
from engram_bench.reporting.words import change_words
from engram_bench.scoring.figures import number
from engram_bench.scoring.metrics import METRICS

MAX_CATEGORIES = 40
"""Largest number of rows of a plot; of more categories the weakest are drawn."""

PLOTS = ("accuracy", "generalization", "consistency", "retention", "speed", "loss")
"""Names of all plots."""

WIDTH, LEFT, RIGHT = 860, 190, 170
"""Width of a plot, its margin for names and its margin for figures, in the plot's units."""
ROW, TOP = 26, 34
"""Height of a row and of the axis above the first row."""


def plots(comparison: Comparison, training: TrainingRecord | None) -> dict[str, str]:
    """Name of a plot → its SVG, for every plot that this run has figures for."""
    measures = comparison.measures
    drawn = {metric: category_plot(comparison, metric) for metric in ("accuracy", "generalization")}
    for name in ("consistency", "retention"):
        drawn[name] = rate_plot(name, [m for m in measures.values() if section_of(m.name) == name])
    pairs = {summary.metric: summary.ratios for summary in comparison.speed}
    timed = [m for m in measures.values() if section_of(m.name) == "speed"]
    drawn["speed"] = ratio_plot("speed", timed, pairs)
    drawn["loss"] = loss_plot(training) if training else ""
    return {name: svg for name, svg in drawn.items() if svg}


def standalone(svg: str) -> str:
    """The plot as an SVG file that follows the reader's light or dark colour scheme."""
    style = f"<style>{resources.files(__package__).joinpath('templates/plot.css').read_text('utf-8')}</style>"
    head, tag, body = svg.partition(">")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{tag}{style}{body}\n'


def category_plot(comparison: Comparison, metric: str) -> str:
    """A rate of both sides per category, with the total last; empty where the rate was not measured."""
    total = comparison.measures.get(metric)
    if total is None or total.candidate is None:
        return ""
    found = {
        name.removeprefix("category:"): measures[metric]
        for name, measures in comparison.slices.items()
        if name.startswith("category:") and metric in measures and measures[metric].candidate is not None
    }
    names = sorted(found)
    if len(names) > MAX_CATEGORIES:
        names = sorted(names, key=lambda name: _value(found[name]))[:MAX_CATEGORIES]
    rows = [_rate_row(name, found[name]) for name in names if len(found) > 1]
    weakest = f" The weakest {len(names)} of {len(found)} categories." if len(names) < len(found) else ""
    title = f"{metric.capitalize()} by category: {METRICS[metric].meaning}.{weakest}"
    return _dot_plot(title, [*rows, _rate_row("all", total, strong=bool(rows))], _PERCENT)


def rate_plot(title: str, measures: Iterable[Measure]) -> str:
    """Rates of both sides, one per row; empty without any rate."""
    rows = [_rate_row(measure.name.replace("_", " "), measure) for measure in measures if measure.unit == "rate"]
    rows = [row for row in rows if row.marks]
    return _dot_plot(f"{title.capitalize()}: rates of both sides.", rows, _PERCENT) if rows else ""


def ratio_plot(title: str, measures: Iterable[Measure], pairs: Mapping[str, Sequence[float]] | None = None) -> str:
    """Ratios of the candidate to the baseline, with no change in the middle; empty without any ratio.

    Args:
        title: Title of the plot.
        measures: Measures that were timed in pairs.
        pairs: Name of a measure → ratio of each pair, drawn as a strip of small dots.
    """
    rows = [
        _Row(
            measure.name.replace("_", " "),
            (_Mark("candidate", measure.ratio.value - 1, _shifted(measure.ratio)),),
            change_words(measure).partition(" (")[0],
            f"n {measure.ratio.n}",
            dots=tuple(ratio - 1 for ratio in (pairs or {}).get(measure.name, ()) if math.isfinite(ratio)),
        )
        for measure in measures
        if measure.ratio is not None and math.isfinite(measure.ratio.value)
    ]
    if not rows:
        return ""
    reach = max(abs(bound) for row in rows for mark in row.marks for bound in (mark.at, *(mark.interval or ())))
    step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0) if 2 * step >= reach), reach / 2)
    ticks = {step * tick: f"{100 * step * tick:+.0f} %" if tick else "no change" for tick in (-2, -1, 0, 1, 2)}
    return _dot_plot(
        f"{title.capitalize()}: candidate over baseline.", rows, _Axis(-2 * step, 2 * step, ticks, zero=0.0)
    )


def loss_plot(training: TrainingRecord) -> str:
    """Loss of every step of a training; empty for fewer than two steps. The scale is logarithmic over more than a decade."""
    losses = [loss for loss in training.losses if math.isfinite(loss)]
    if len(losses) < 2:
        return ""
    low, high = min(losses), max(losses)
    is_log = low > 0 and high / low > 10
    ticks = _decades(low, high) if is_log else [tick * high / 4 for tick in range(5)]
    bottom, top = (min(low, ticks[0]), max(high, ticks[-1])) if is_log else (0.0, high or 1.0)
    height, left, right, upper, lower = 260, 64, 24, 18, 222

    def x(step: float) -> float:
        return left + (WIDTH - left - right) * step / (len(losses) - 1)

    def y(loss: float) -> float:
        scale = math.log if is_log else float
        share = (scale(loss) - scale(bottom)) / ((scale(top) - scale(bottom)) or 1.0)
        return lower - (lower - upper) * share

    stride = -(-len(losses) // 1500)
    kept = [*range(0, len(losses) - 1, stride), len(losses) - 1]
    parts = []
    for tick in ticks:
        parts += [
            tag("line", x1=left, x2=WIDTH - right, y1=y(tick), y2=y(tick), class_="grid"),
            text(f"{tick:.3g}", left - 10, y(tick) + 4, "end muted"),
        ]
    parts += [text(str(round(step) + 1), x(step), lower + 20, "middle muted") for step in _steps(len(losses))]
    parts += [
        text("step", WIDTH - right, lower + 36, "end muted"),
        tag("polyline", points=" ".join(f"{x(i):.1f},{y(losses[i]):.1f}" for i in kept), class_="curve"),
        tag("circle", cx=x(kept[-1]), cy=y(losses[-1]), r=4, class_="candidate"),
        text(f"{losses[-1]:.3g}", x(kept[-1]) - 8, y(losses[-1]) - 10, "end strong halo"),
    ]
    title = f"Training loss: {losses[0]:.3g} nats at step 1, {losses[-1]:.3g} at step {len(losses)}."
    return svg(title, "Mean answer-token loss in nats per step.", height, parts)


# ── dots and intervals ──────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Mark:
    side: str
    """``baseline`` or ``candidate``."""
    at: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    marks: tuple[_Mark, ...]
    figure: str
    note: str
    strong: bool = False
    dots: tuple[float, ...] = ()
    """Single values behind the marks; a value outside the axis is drawn at the plot's edge."""


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    ticks: Mapping[float, str]
    zero: float | None = None
    """Value at which a line marks no change; None draws no line."""

    def x(self, value: float) -> float:
        """Horizontal position of a value, limited to the plot."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return LEFT + (WIDTH - LEFT - RIGHT) * share


_PERCENT = _Axis(0.0, 1.0, {0.0: "0", 0.25: "25", 0.5: "50", 0.75: "75", 1.0: "100 %"})


def _rate_row(name: str, measure: Measure, *, strong: bool = False) -> _Row:
    sides = (("baseline", measure.baseline), ("candidate", measure.candidate))
    marks = tuple(
        _Mark(side, estimate.value, estimate.interval)
        for side, estimate in sides
        if estimate is not None and math.isfinite(estimate.value)
    )
    value = number(measure.candidate.value, "rate") + " %" if measure.candidate else ""
    return _Row(name, marks, value, change_words(measure).partition(" (")[0], strong)


def _dot_plot(title: str, rows: Sequence[_Row], axis: _Axis) -> str:
    bottom = TOP + ROW * len(rows)
    parts = [
        part
        for value, label in axis.ticks.items()
        for part in (
            tag(
                "line",
                x1=axis.x(value),
                x2=axis.x(value),
                y1=TOP - 6,
                y2=bottom,
                class_="zero" if value == axis.zero else "grid",
            ),
            text(label, axis.x(value), TOP - 14, "middle muted"),
        )
    ]
    for index, row in enumerate(rows):
        y = TOP + ROW * index + ROW / 2
        if row.strong:
            parts.append(tag("line", x1=0, x2=WIDTH, y1=y - ROW / 2, y2=y - ROW / 2, class_="rule"))
        parts += _row_parts(row, y, axis)
    said = "; ".join(f"{row.name}: {row.figure}{', ' * bool(row.note)}{row.note}" for row in rows)
    return svg(title, said, bottom + 6, parts)


def _row_parts(row: _Row, y: float, axis: _Axis) -> Iterator[str]:
    weight = " strong" * row.strong
    yield text(printable(row.name, 22), LEFT - 16, y + 4, f"end{weight}")
    for index, value in enumerate(row.dots):
        yield tag("circle", cx=axis.x(value), cy=y + (index % 5 - 2) * 3, r=1.8, class_="pair")
    for mark in row.marks:
        if mark.interval is not None:
            low, high = (axis.x(bound) for bound in mark.interval)
            yield tag("rect", x=low, y=y - 4, width=max(high - low, 1), height=8, rx=4, class_=f"band {mark.side}")
    if len(row.marks) == 2:
        yield tag("line", x1=axis.x(row.marks[0].at), x2=axis.x(row.marks[1].at), y1=y, y2=y, class_="link")
    for mark in row.marks:
        yield tag("circle", cx=axis.x(mark.at), cy=y, r=4.5 if mark.side == "baseline" else 5, class_=mark.side)
    yield text(row.figure, WIDTH - RIGHT + 78, y + 4, f"end{weight}")
    yield text(row.note, WIDTH, y + 4, f"end muted{weight}")


def _shifted(ratio: Estimate) -> tuple[float, float] | None:
    return None if ratio.interval is None else (ratio.interval[0] - 1, ratio.interval[1] - 1)


def _value(measure: Measure) -> float:
    return measure.candidate.value if measure.candidate else 0.0


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from below *low* to above *high*."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def _steps(count: int) -> list[float]:
    """Indices with a label on the step axis: the first, the last and the quarters between."""
    return sorted({0, *(round((count - 1) * quarter / 4) for quarter in (1, 2, 3)), count - 1})


# ── SVG ─────────────────────────────────────────────────────────────────────────────────────────


def svg(title: str, description: str, height: float, parts: Iterable[str]) -> str:
    """A plot of *height* units with its title and description for screen readers."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {height:g}" role="img"'
    said = escape(printable(description, 4000))
    return (
        f"{head} aria-label={quoteattr(printable(title))}>"
        f"<title>{escape(printable(title))}</title><desc>{said}</desc>{''.join(parts)}</svg>"
    )


def tag(name: str, **attributes: float | str) -> str:
    """An SVG element; a trailing underscore of an attribute's name is dropped, and other underscores become hyphens."""
    written = " ".join(
        f"{key.rstrip('_').replace('_', '-')}={quoteattr(value if isinstance(value, str) else f'{value:.1f}'.removesuffix('.0'))}"
        for key, value in attributes.items()
    )
    return f"<{name} {written}/>"


def text(text: str, x: float, y: float, class_: str) -> str:
    """A text at a position."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class={quoteattr(class_)}>{escape(printable(text))}</text>'
