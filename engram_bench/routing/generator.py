"""A generator that asks the adapter only questions like those it was trained on, and the bare model all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from engram_bench.backends.protocol import Generator
from engram_bench.records import Completion, GenerationSettings, Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engram_bench.routing.router import Router


class RoutedGenerator:
    """Two generators of one model behind a router; answers of the bare model are the same to the bit as without a router."""

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
        known = [decision.is_known for decision in self._router.decide(prompts)]
        guesses = list(drafts) if drafts is not None else [None] * len(prompts)
        found: dict[int, Completion] = {}
        for side, generator in self._sides.items():
            indices = [index for index, is_known in enumerate(known) if is_known is side]
            if indices:
                part = generator.complete(
                    [prompts[index] for index in indices], settings, drafts=[guesses[index] for index in indices]
                )
                found.update(zip(indices, part, strict=True))
        return [found[index] for index in range(len(prompts))]

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        """The completion in pieces, from the side the question is routed to."""
        (decision,) = self._router.decide([prompt])
        return self._sides[decision.is_known].stream(prompt, settings)

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        """Log-probabilities (T, V) of each sequence, from the side of its question; for plain text, the bare model's."""
        sides = [self._sides[decision.is_known] for decision in self._router.decide_ids(sequences)]
        return [side.log_probs([ids])[0] for side, ids in zip(sides, sequences, strict=True)]

    def close(self) -> None:
        """Close both sides."""
        for generator in self._sides.values():
            generator.close()
