"""One prompt put to both sides at once, token by token: what a demo shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engram_bench.backends.protocol import Generator
    from engram_bench.records import Case, GenerationSettings, Score, Side


@dataclass
class Lane:
    """One side's answer so far."""

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    """Spent on this side alone; the sides take turns."""
    is_done: bool = False
    score: Score | None = None
    """Once it is done, where an answer is expected."""

    @property
    def tokens_per_s(self) -> float:
        """0 before the first token."""
        return self.tokens / self.seconds if self.seconds else 0.0


Lanes = Mapping["Side", Lane]


def duel(
    generators: Mapping[Side, Generator],
    case: Case,
    settings: GenerationSettings,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Lanes]:
    """The lanes after every token, the sides taking turns until both are done; the last ones are scored.

    Each side's seconds are those its own tokens took, so the speeds are as if it had run alone.
    """
    from engram_bench.matchers import match

    lanes: dict[Side, Lane] = {side: Lane() for side in generators}
    streams = {side: generator.stream(case.prompt, settings) for side, generator in generators.items()}
    while streams:
        for side in list(streams):
            lane = lanes[side]
            started = clock()
            piece = next(streams[side], None)
            lane.seconds += clock() - started
            if piece is None:
                del streams[side]
                lane.is_done = True
                if case.answers:
                    lane.score = match(case.match, lane.text, case.answers)
            else:
                lane.text += piece
                lane.tokens += 1
            yield lanes
