"""The tries in docs/experiments.md as a plot: what was learned against what was kept.

    python -m benchmarks.tradeoff

Reads every table of the page that has the columns ``held-out`` and ``retention``; a point per row, numbered, and
named by its first column in a list. Writes docs/img/tradeoff.svg.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engram_bench.reporting.plots import WIDTH, standalone, svg, tag, text

PAGE, PLOT = Path("docs/experiments.md"), Path("docs/img/tradeoff.svg")
TARGETS = {"held_out": 0.80, "retention": 0.95}
HEIGHT, LEFT, RIGHT, UPPER, LOWER = 420, 64, 60, 26, 372
LOWEST, HIGHEST = 0.5, {"held_out": 0.85, "retention": 1.0}
"""Where both axes start, and where each ends."""
NAMES_AT, NAMES_APART, LINE = (0.61, 0.69), 0.16, 15
"""Where the list of names begins, the distance of its columns, both in shares of the axes, and of its lines, in pixels."""


@dataclass(frozen=True, slots=True)
class Try:
    """One recipe."""

    name: str
    held_out: float
    retention: float


def main() -> None:
    """Draw the plot again."""
    tries = list(read_tries(PAGE.read_text("utf-8")))
    PLOT.write_text(standalone(plot(tries)), "utf-8")
    print(f"{PLOT}: {len(tries)} tries")


def read_tries(page: str) -> Iterator[Try]:
    """The rows of the page's tables that have both figures, in %."""
    columns: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if "held-out" in cells and "retention" in cells:
            columns = cells
        elif not cells:
            columns = []
        elif columns and (found := _figures(dict(zip(columns, cells, strict=False)))):
            yield Try(cells[0].strip("*"), *found)


def _figures(row: dict[str, str]) -> tuple[float, float] | None:
    found = [re.match(r"[\d.]+", row.get(name, "")) for name in ("held-out", "retention")]
    if not all(found):
        return None
    held_out, retention = (float(match[0]) / 100 for match in found if match)
    return held_out, retention


def plot(tries: list[Try]) -> str:
    """Held-out wordings (up) against retention (right), with the targets."""

    def x(share: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (share - LOWEST) / (HIGHEST["retention"] - LOWEST)

    def y(share: float) -> float:
        return LOWER - (LOWER - UPPER) * (share - LOWEST) / (HIGHEST["held_out"] - LOWEST)

    parts = []
    for tick in (0.5, 0.6, 0.7, 0.8):
        parts += [
            tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(tick), y2=y(tick), class_="grid"),
            text(f"{100 * tick:.0f} %", LEFT - 10, y(tick) + 4, "end muted"),
        ]
    parts += [
        text(f"{100 * tick:.0f} %", x(tick), LOWER + 20, "middle muted") for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ]
    held_out, retention = TARGETS["held_out"], TARGETS["retention"]
    parts += [
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(held_out), y2=y(held_out), class_="zero"),
        tag("line", x1=x(retention), x2=x(retention), y1=UPPER, y2=LOWER, class_="zero"),
        text("held-out wordings right ↑", LEFT, UPPER - 10, "muted"),
        text("known controls kept →", WIDTH - RIGHT, LOWER + 38, "end muted"),
    ]
    for each in tries:
        parts.append(tag("circle", cx=x(each.retention), cy=y(each.held_out), r=4.5, class_="candidate"))
    beside: dict[tuple[int, int], list[str]] = {}
    for number, each in enumerate(tries, start=1):
        column, line = divmod(number - 1, -(-len(tries) // 2))
        at_x, at_y = x(NAMES_AT[0] + column * NAMES_APART), y(NAMES_AT[1]) + line * LINE
        parts.append(text(f"{number}  {each.name}", at_x, at_y, "halo"))
        beside.setdefault((round(x(each.retention)), round(y(each.held_out) / 8)), []).append(str(number))
    for (at_x, row), numbers in beside.items():
        parts.append(text(", ".join(numbers), at_x + 8, row * 8 + 4, "halo"))
    described = "; ".join(
        f"{each.name}: held-out {100 * each.held_out:.1f} %, retention {100 * each.retention:.1f} %" for each in tries
    )
    return svg("Recipes: what was learned against what was kept", described, HEIGHT, parts)


if __name__ == "__main__":
    main()
