"""An asciicast v2 recording as an animated SVG that plays in a README.

    python docs/demo/render.py demo.cast demo.svg

Reads what ``engram-bench demo --record`` writes: text, line ends, cursor up, erase line and colours. Every stretch of time
in which a row of the screen stays the same is one group of text that is shown for that time, so the file grows with what
changes and not with the frames. Where nothing is animated (print, previews) the last screen is shown.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

FRAME_S = 0.1
"""Changes within this time are one."""
IDLE_S = 1.5
"""Longest wait that is played as it was; a longer one (a training) is cut to it."""
END_S = 5.0
"""How long the last screen stays before the recording starts again."""
CELL, LINE, MARGIN, BAR = 8.43, 17, 16, 34
"""Pixels: width of a character, height of a line, around the screen, the window's bar."""

COLOURS = {
    30: "#8b949e",
    31: "#ff7b72",
    32: "#7ee787",
    33: "#e3b341",
    34: "#79c0ff",
    35: "#d2a8ff",
    36: "#76e3ea",
    37: "#e6edf3",
}
_ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b[^\[\]]")


@dataclass(frozen=True)
class Style:
    """Style of a character."""

    colour: int | None = None
    bold: bool = False
    dim: bool = False

    def changed(self, codes: Iterable[int]) -> Style:
        """Style after an ``SGR`` escape; codes that are not drawn are left out."""
        style = self
        for code in codes:
            if code == 0:
                style = Style()
            elif code in (1, 2):
                style = replace(style, bold=code == 1 or style.bold, dim=code == 2 or style.dim)
            elif code == 22:
                style = replace(style, bold=False, dim=False)
            elif code % 60 in COLOURS and (30 <= code <= 37 or 90 <= code <= 97):
                style = replace(style, colour=code % 60)
            elif code == 39:
                style = replace(style, colour=None)
        return style

    @property
    def attributes(self) -> str:
        """Attributes of a ``tspan``; empty for plain text."""
        fill = f' fill="{COLOURS[self.colour]}"' if self.colour is not None else ""
        return fill + ' font-weight="bold"' * self.bold + ' opacity=".65"' * self.dim


PLAIN = Style()
Row = tuple[tuple[str, Style], ...]


class Screen:
    """A terminal of fixed size, as far as the recordings need one."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows: list[list[tuple[str, Style]]] = [[] for _ in range(height)]
        self._x = self._y = 0
        self._style = PLAIN

    def write(self, text: str) -> None:
        """Take in text with escapes."""
        at = 0
        while at < len(text):
            found = _ESCAPE.match(text, at)
            if found:
                self._obey(found[1] or "", found[2] or "")
                at = found.end()
            else:
                self._put(text[at])
                at += 1

    def rows(self) -> list[Row]:
        """What is on it, blanks at the ends of rows left out."""
        shown = []
        for row in self._rows:
            end = max((index for index, (char, _) in enumerate(row, 1) if char != " "), default=0)
            shown.append(tuple(row[:end]))
        return shown

    def _put(self, char: str) -> None:
        if char == "\r":
            self._x = 0
        elif char == "\n":
            self._down()
        elif char >= " ":
            if self._x == self.width:
                self._x = 0
                self._down()
            row = self._rows[self._y]
            row.extend([(" ", PLAIN)] * (self._x - len(row)))
            row[self._x : self._x + 1] = [(char, self._style)]
            self._x += 1

    def _down(self) -> None:
        if self._y == self.height - 1:
            self._rows = [*self._rows[1:], []]
        else:
            self._y += 1

    def _obey(self, arguments: str, letter: str) -> None:
        numbers = [int(part) for part in arguments.split(";") if part.isdigit()]
        if letter == "m":
            self._style = self._style.changed(numbers or [0])
        elif letter == "A":
            self._y = max(0, self._y - (numbers or [1])[0])
        elif letter == "K":
            keep = 0 if numbers == [2] else self._x
            del self._rows[self._y][keep:]


@dataclass(frozen=True)
class Recording:
    """What is played."""

    width: int
    height: int
    about: str
    """Where it comes from."""
    screens: list[tuple[float, list[Row]]]
    """Each with the second it appears at, idle time cut."""


def read(lines: Iterable[str]) -> Recording:
    """The recording of a file's lines.

    Raises:
        ValueError: The first line is no header of an asciicast v2.
    """
    header, *events = [json.loads(line) for line in lines if line.strip()]
    if not isinstance(header, dict) or header.get("version") != 2:
        raise ValueError("expected an asciicast of version 2")
    screen = Screen(header["width"], header["height"])
    found: list[tuple[float, list[Row]]] = [(0.0, screen.rows())]
    now = before = 0.0
    for at, kind, text in events:
        if kind == "o":
            now += min(at - before, IDLE_S)
            before = at
            screen.write(text)
            if now - found[-1][0] >= FRAME_S:
                found.append((now, screen.rows()))
            else:
                found[-1] = (found[-1][0], screen.rows())
    return Recording(screen.width, screen.height, _about(header), found)


def _about(header: dict[str, Any]) -> str:
    """A sentence on where a recording comes from, as far as its header says."""
    recorded = header.get("recorded", {})
    facts = {
        "Recorded": recorded.get("at"),
        "by": header.get("command"),
        "at commit": recorded.get("commit"),
        "on": recorded.get("machine"),
    }
    return " ".join(f"{word} {fact}" for word, fact in facts.items() if fact)


def svg(recording: Recording) -> str:
    """The recording as one SVG that plays forever."""
    width, height, screens = recording.width, recording.height, recording.screens
    total = screens[-1][0] + END_S
    w, h = width * CELL + 2 * MARGIN, height * LINE + 2 * MARGIN + BAR
    parts = []
    for y in range(height):
        for start, end, row in _stretches([(at, rows[y]) for at, rows in screens], total):
            if row:
                parts.append(_shown(_text(row, y), start, end, is_last=end == total, total=total))
    dots = "".join(
        f'<circle cx="{MARGIN + 6 + 20 * n}" cy="18" r="6" fill="{colour}"/>'
        for n, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:.0f} {h:.0f}" width="{w:.0f}" height="{h:.0f}" role="img">'
        "<title>engram-bench demo: the bare and the tuned model answer side by side</title>"
        f"<desc>{escape(recording.about)}</desc>"
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;"
        "fill:#e6edf3}</style>"
        f'<rect width="100%" height="100%" rx="10" fill="#0d1117"/>{dots}'
        f'<rect width="0" height="0"><animate id="t" attributeName="width" from="0" to="0" dur="{total:.2f}s" '
        f'begin="0s;t.end"/></rect>{"".join(parts)}</svg>\n'
    )


def _stretches(rows: list[tuple[float, Row]], total: float) -> Iterator[tuple[float, float, Row]]:
    """(from, to, row) for each time in which the row stays the same."""
    started, shown = rows[0]
    for at, row in rows[1:]:
        if row != shown:
            yield started, at, shown
            started, shown = at, row
    yield started, total, shown


def _shown(text: str, start: float, end: float, *, is_last: bool, total: float) -> str:
    """The text, shown from *start* to *end*; what is on the last screen is hidden before instead."""
    if is_last and start == 0:
        return text
    if is_last:
        return f'<g>{text}<set attributeName="visibility" to="hidden" begin="t.begin" dur="{start:.2f}s"/></g>'
    timing = f'begin="t.begin+{start:.2f}s" dur="{end - start:.2f}s"'
    return f'<g visibility="hidden">{text}<set attributeName="visibility" to="visible" {timing}/></g>'


def _text(row: Row, y: int) -> str:
    """A row as text, one ``tspan`` per style; each is placed and stretched to its cells, whatever the font."""
    spans = []
    start = 0
    while start < len(row):
        end = start
        while end < len(row) and row[end][1] == row[start][1]:
            end += 1
        piece = "".join(char for char, _ in row[start:end])
        if piece.strip():
            lead = len(piece) - len(piece.lstrip())
            piece = piece.strip()
            place = f'x="{MARGIN + (start + lead) * CELL:.1f}" textLength="{len(piece) * CELL:.1f}"'
            spans.append(f"<tspan {place}{row[start][1].attributes}>{escape(piece)}</tspan>")
        start = end
    return f'<text y="{BAR + MARGIN + y * LINE:.0f}">{"".join(spans)}</text>'


def main(argv: list[str] | None = None) -> int:
    """Render a file; 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cast", type=Path, help="What engram-bench demo --record wrote.")
    parser.add_argument("svg", type=Path, help="Where to.")
    args = parser.parse_args(argv)
    args.svg.write_text(svg(read(args.cast.read_text("utf-8").splitlines())), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
