"""The figures of a history as one SVG: a panel per figure, a point per run, the oldest run on the left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from engram_bench.door import printable
from engram_bench.runs.history import TREND, Point, RunRow

WIDTH, LEFT, RIGHT = 860, 160, 90
PANEL, GAP, TOP, BOTTOM = 110, 26, 40, 34
"""Height of a panel, space between panels, space above the first and below the last panel, in the plot's units."""

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.muted { fill: #57606a } .end { text-anchor: end } .middle { text-anchor: middle }
.strong { font-weight: 600 }
.grid { stroke: #d0d7de } .curve { fill: none; stroke: #0969da; stroke-width: 2 } .interval { stroke: #0969da; opacity: .35 }
.point { fill: #0969da } .back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .muted { fill: #9198a1 } .grid { stroke: #3d444d }
  .curve, .interval { stroke: #4493f8 } .point { fill: #4493f8 } .back { fill: #0d1117 }
}
"""


def trend_svg(rows: Sequence[RunRow]) -> str:
    """The whole SVG file. A figure that no run measured has no panel; a run without the figure leaves a gap in the curve."""
    names = [name for name in TREND if any(name in row.points for row in rows)]
    height = TOP + len(names) * (PANEL + GAP) + BOTTOM
    numbers = [row.name.split("-")[0] for row in rows]
    last = "; ".join(f"{name} {_words(name, point)}" for name in names if (point := rows[-1].points.get(name)))
    title = f"{len(rows)} runs, {printable(rows[0].started[:10])} to {printable(rows[-1].started[:10])}"
    parts = [_text(title, LEFT, 20, "strong")]
    for index, name in enumerate(names):
        parts += _panel(name, rows, TOP + index * (PANEL + GAP))
    every = max(1, len(rows) // 12)
    parts += [
        _text(number, _x(index, len(rows)), height - BOTTOM + 8, "middle muted")
        for index, number in enumerate(numbers)
        if index % every == 0
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
        f"<title>{escape(printable(title))}</title><desc>{escape(printable(f'Latest run: {last}.'))}</desc>"
        f"<style>{_STYLE}</style>"
        f'<rect class="back" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _panel(name: str, rows: Sequence[RunRow], top: int) -> Iterator[str]:
    low, high = _bounds(name, rows)

    def y(value: float) -> float:
        return top + PANEL * (1 - (min(max(value, low), high) - low) / (high - low))

    yield _text(name, LEFT - 62, top + PANEL / 2 + 4, "end strong")
    for tick in (low, (low + high) / 2, high):
        label = f"{tick:.2f}" if name == "speed ratio" else f"{100 * tick:.0f} %"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield _text(label, LEFT - 10, y(tick) + 4, "end muted")
    for stretch in _stretches(name, rows):
        points = " ".join(f"{_x(index, len(rows)):.1f},{y(point.value):.1f}" for index, point in stretch)
        yield f'<polyline class="curve" points="{points}"/>'
        for index, point in stretch:
            x = _x(index, len(rows))
            if point.interval:
                below, above = map(y, point.interval)
                yield f'<line class="interval" x1="{x:.1f}" x2="{x:.1f}" y1="{below:.1f}" y2="{above:.1f}"/>'
            yield f'<circle class="point" cx="{x:.1f}" cy="{y(point.value):.1f}" r="3"/>'
    if newest := rows[-1].points.get(name):
        yield _text(_words(name, newest), WIDTH - RIGHT + 12, y(newest.value) + 4, "strong")


def _bounds(name: str, rows: Sequence[RunRow]) -> tuple[float, float]:
    """Bounds of a panel: 0 and 1 for a rate, and bounds around 1 for a ratio."""
    if name != "speed ratio":
        return 0.0, 1.0
    points = [row.points[name] for row in rows if name in row.points]
    reach = max(abs(bound - 1) for point in points for bound in (point.value, *(point.interval or ())))
    return 1 - max(reach, 0.05), 1 + max(reach, 0.05)


def _stretches(name: str, rows: Sequence[RunRow]) -> Iterator[list[tuple[int, Point]]]:
    """Stretches of neighbouring runs that all have the figure."""
    stretch: list[tuple[int, Point]] = []
    for index, row in enumerate(rows):
        if point := row.points.get(name):
            stretch.append((index, point))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _x(index: int, count: int) -> float:
    span = WIDTH - LEFT - RIGHT - 24
    return LEFT + 12 + (span * index / (count - 1) if count > 1 else span / 2)


def _words(name: str, point: Point) -> str:
    return f"{point.value:.2f}" if name == "speed ratio" else f"{100 * point.value:.1f} %"


def _text(text: str, x: float, y: float, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(printable(text))}</text>'
