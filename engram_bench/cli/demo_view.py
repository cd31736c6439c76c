"""The look of a demo: the prompt, both answers side by side while they are decoded, a mark and a speed under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engram_bench.cli.duel import Lane, Lanes
from engram_bench.door import encodable, printable
from engram_bench.records import Case

SIDE_BY_SIDE = 60
"""Columns of a console from which the two answers are drawn side by side."""
LINES = 6
"""Lines shown of an answer; of a longer answer the end is shown."""

TITLES = {"baseline": "before", "candidate": "after"}
SPLITS = {"seen": "trained on", "held_out": "a wording never trained on", "control": "a control"}


@dataclass(frozen=True, slots=True)
class View:
    """Renderer of a demo for one console."""

    console: Console

    def text(self, text: str, style: str = "") -> Text:
        """Untrusted text made safe for this console: nothing in the text is markup or an escape sequence."""
        return Text(encodable(printable(text), self.console.encoding), style=style, overflow="fold")

    def heading(self, case: Case, number: int, total: int) -> RenderableType:
        """The prompt, its category and split, and the expected answer.

        Args:
            case: Case to be played.
            number: Number of the case, from 1.
            total: Number of all cases; 0 where it is not known, which hides the number.
        """
        counter = f"{number}/{total}  " if total else ""
        lines = [self.text(f"{counter}{case.prompt.user}", "bold")]
        if case.answers:
            about = f"{case.category}, {SPLITS[case.split]}; expected: {case.answers[0]}"
            lines.append(self.text(f"{' ' * len(counter)}{about}", "dim"))
        return Group(*lines)

    def lanes(self, lanes: Lanes) -> RenderableType:
        """Both answers in boxes of equal height."""
        is_wide = self.console.width >= SIDE_BY_SIDE
        inner = (self.console.width // 2 if is_wide else self.console.width) - 4
        boxes = [self._box(side, lane, inner) for side, lane in lanes.items()]
        if not is_wide:
            return Group(*boxes)
        grid = Table.grid(expand=True)
        for _ in boxes:
            grid.add_column(ratio=1)
        grid.add_row(*boxes)
        return grid

    def _box(self, side: str, lane: Lane, inner: int) -> Panel:
        shown = self.text(lane.text.strip())
        wrapped = shown.wrap(self.console, inner)
        body = Text("\n").join(wrapped[-LINES:])
        title = f"{TITLES.get(side, side)}: {side}"
        return Panel(
            body,
            title=self.text(title),
            title_align="left",
            subtitle=self._state(lane),
            subtitle_align="left",
            height=LINES + 2,
            border_style=_colour(lane),
        )

    def _state(self, lane: Lane) -> Text:
        """``✓ 3 tokens, 24.1 tok/s, 0.12 s``, with ``…`` at the end until the answer is complete."""
        mark = "" if lane.score is None else "✓ " if lane.score.passed else "✗ "
        tokens = f"{lane.tokens} token{'s' * (lane.tokens != 1)}"
        speed = f", {lane.tokens_per_s:.1f} tok/s, {lane.seconds:.2f} s" if lane.tokens else ""
        return self.text(f"{mark}{tokens}{speed}{'' if lane.is_done else ' …'}")

    def summary(self, played: Sequence[tuple[Case, Lanes]]) -> RenderableType:
        """A table of both sides over all prompts: correct answers, tokens and seconds per answer, tokens per second."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("")
        for heading in ("correct", "tokens to answer", "time to answer", "tok/s"):
            table.add_column(heading, justify="right")
        for side in ("baseline", "candidate"):
            lanes = [lanes[side] for _, lanes in played]  # type: ignore[index]
            scored = [lane.score.passed for lane in lanes if lane.score is not None]
            seconds = sum(lane.seconds for lane in lanes)
            table.add_row(
                f"{TITLES[side]}: {side}",
                f"{sum(scored)} of {len(scored)}" if scored else "",
                f"{fmean(lane.tokens for lane in lanes):.1f}",
                f"{fmean(lane.seconds for lane in lanes):.2f} s",
                f"{sum(lane.tokens for lane in lanes) / seconds:.1f}" if seconds else "",
            )
        return table


def _colour(lane: Lane) -> str:
    if lane.score is None:
        return "none"
    return "green" if lane.score.passed else "red"
