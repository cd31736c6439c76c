"""A generator that asks the adapter only what it was trained for, and the bare model everything else, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from engram_bench.backends.protocol import Generator
from engram_bench.records import Completion, GenerationSettings, Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Verdict(Protocol):
    """What a router decided."""

    @property
    def is_known(self) -> bool:
        """Whether the adapter is asked."""


class Router(Protocol):
    """Tells known questions from others."""

    def decide(self, prompts: Sequence[Prompt]) -> Sequence[Verdict]:
        """Whether each prompt's question is known."""

    def decide_ids(self, sequences: Sequence[Sequence[int]]) -> Sequence[Verdict]:
        """Whether the question in each chat, given as token ids, is known."""


class RoutedGenerator:
    """Two generators of one model behind a router."""

    def __init__(self, adapted: Generator, bare: Generator, router: Router) -> None:
        self._sides = {True: adapted, False: bare}
        self._router = router

    def complete(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        drafts: Sequence[str | None] | None = None,
    ) -> list[Completion]:
        """One completion per prompt, in order, each from the side its question is routed to."""
        known = [verdict.is_known for verdict in self._router.decide(prompts)]
        guesses = list(drafts) if drafts is not None else [None] * len(prompts)
        found: dict[int, Completion] = {}
        for side, generator in self._sides.items():
            places = [place for place, is_known in enumerate(known) if is_known is side]
            if places:
                part = generator.complete(
                    [prompts[place] for place in places], settings, drafts=[guesses[place] for place in places]
                )
                found.update(zip(places, part, strict=True))
        return [found[place] for place in range(len(prompts))]

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """The completion in pieces, from the side the question is routed to."""
        (verdict,) = self._router.decide([prompt])
        return self._sides[verdict.is_known].stream(prompt, settings)

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Log-probabilities (T, V) of each sequence, from the side its question is routed to; of plain text the bare."""
        verdicts = self._router.decide_ids(sequences)
        sides = [self._sides[verdict.is_known] for verdict in verdicts]
        return [side.log_probs([ids])[0] for side, ids in zip(sides, sequences, strict=True)]

    def close(self) -> None:
        """Close both sides."""
        for generator in self._sides.values():
            generator.close()
