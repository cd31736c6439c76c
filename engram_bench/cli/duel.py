"""One prompt answered by both sides at once, token by token, as a demo shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from engram_bench.backends.protocol import Generator
from engram_bench.matchers import match
from engram_bench.records import Case, GenerationSettings, Score, Side


@dataclass
class Lane:
    """One side's answer so far."""

    text: str = ""
    tokens: int = 0
    seconds: float = 0.0
    """Seconds spent on this side alone; the sides take turns."""
    is_done: bool = False
    score: Score | None = None
    """Score of the complete answer; None before, and where no answer is expected."""

    @property
    def tokens_per_s(self) -> float:
        """Decode speed in tokens per second; 0 before the first token."""
        return self.tokens / self.seconds if self.seconds else 0.0


Lanes = Mapping[Side, Lane]
"""Side → its answer so far."""


def duel(
    generators: Mapping[Side, Generator],
    case: Case,
    settings: GenerationSettings,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Lanes]:
    """The lanes after every token; the sides take turns until both are done, and the last lanes are scored.

    The seconds of a side are those of its own tokens, so each speed is that of a side that runs alone.

    Args:
        generators: Loaded model of each side.
        case: Case whose prompt is asked.
        settings: Settings of the decoding.
        clock: Source of the time in seconds.
    """
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
