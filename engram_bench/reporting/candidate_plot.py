"""The Pareto picture of a candidate set as SVG: what was learned, what was kept, and how long the training took."""

from __future__ import annotations

import math
from collections.abc import Iterator

from engram_bench.door import printable
from engram_bench.records.candidates import Candidate, CandidateSet
from engram_bench.reporting.plots import WIDTH, svg, tag, text
from engram_bench.reporting.variants import apart

HEIGHT, LEFT, RIGHT, UPPER, LOWER = 420, 64, 60, 26, 366
"""Height of the plot and its margins, in the plot's units."""
SMALLEST, LARGEST = 4.0, 13.0
"""Radius of a candidate without training, and of the longest training."""
MOST_NAMES = 12
"""Largest number of candidates with their names beside them; of more, each has its number."""


def pareto_plot(found: CandidateSet) -> str:
    """Held-out accuracy (up) against retention (right), a larger circle for a longer training; members of the set are filled.

    Empty where no candidate has both figures.
    """
    placed = [each for each in found.candidates if {"generalization", "retention"} <= each.measures.keys()]
    if not placed:
        return ""
    lowest_x, lowest_y = (_lowest(each.measures[m].value for each in placed) for m in ("retention", "generalization"))
    longest = max((each.train_s or 0.0 for each in placed), default=0.0)
    members = set(found.pareto.members) if found.pareto else set()
    numbers = {each.name: number for number, each in enumerate(found.candidates, start=1)}

    def at(candidate: Candidate) -> tuple[float, float]:
        kept, held = candidate.measures["retention"].value, candidate.measures["generalization"].value
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * (kept - lowest_x) / (1 - lowest_x),
            LOWER - (LOWER - UPPER) * (held - lowest_y) / (1 - lowest_y),
        )

    parts = list(_axes(lowest_x, lowest_y))
    sides: dict[bool, list[Candidate]] = {False: [], True: []}
    for each in sorted(placed, key=lambda each: at(each)[1]):
        x, y = at(each)
        share = math.sqrt((each.train_s or 0.0) / longest) if longest else 0.0
        radius = SMALLEST + (LARGEST - SMALLEST) * share
        parts.append(tag("circle", cx=x, cy=y, r=radius, class_="candidate" if each.name in members else "baseline"))
        sides[x > WIDTH * 0.6].append(each)
    for is_right, side in sides.items():
        heights = apart([at(each)[1] + 4 for each in side], UPPER + 4, LOWER + 4) if side else []
        for each, y in zip(side, heights, strict=True):
            name = printable(each.name, 24) if len(placed) <= MOST_NAMES else str(numbers[each.name])
            x = at(each)[0] + (-LARGEST - 5 if is_right else LARGEST + 5)
            parts.append(text(f"{name}{_seconds(each)}", x, y, "end halo" if is_right else "halo"))
    said = "; ".join(
        f"{each.name}: held-out {100 * each.measures['generalization'].value:.1f} %, "
        f"retention {100 * each.measures['retention'].value:.1f} %{_seconds(each)}"
        for each in placed
    )
    return svg("Held-out accuracy, retention and seconds of training", said, HEIGHT, parts)


def _seconds(candidate: Candidate) -> str:
    return "" if candidate.train_s is None else f", {candidate.train_s:.0f} s"


def _axes(lowest_x: float, lowest_y: float) -> Iterator[str]:
    for step in range(5):
        x, y = LEFT + (WIDTH - LEFT - RIGHT) * step / 4, LOWER - (LOWER - UPPER) * step / 4
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        yield text(f"{100 * (lowest_y + (1 - lowest_y) * step / 4):.3g} %", LEFT - 10, y + 4, "end muted")
        yield text(f"{100 * (lowest_x + (1 - lowest_x) * step / 4):.3g} %", x, LOWER + 20, "middle muted")
    yield text("held-out wordings answered correctly ↑", LEFT, UPPER - 12, "muted")
    yield text("known controls still answered correctly →", WIDTH - RIGHT, LOWER + 40, "end muted")


def _lowest(values: Iterator[float]) -> float:
    """A tenth below the smallest value, at which an axis can start; 0 for small values."""
    low = math.floor(10 * min(values) - 1e-9) / 10
    return low if 0.3 < low < 1 else 0.0
