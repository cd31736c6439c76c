"""Is this question one of those that were trained? Told by its tokens alone, so the same for every kind of adapter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

from engram_bench.memory.background import QUESTIONS
from engram_bench.memory.reading import Reading, read_ids, read_prompt
from engram_bench.records import Prompt

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer

FALSE_POSITIVES = 0.02
"""Share of ordinary questions that may be taken for known ones when the threshold is chosen."""
Gram = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the adapter is asked."""

    is_known: bool
    share: float
    """Of the question's tokens and pairs of tokens, those that stand in trained questions and in no ordinary one."""
    threshold: float
    """Known is what has a greater share."""


class KeyRouter:
    """Decides by the share of a question's tokens and token pairs that are the patterns' own.

    The threshold is the smallest share that at most *false_positives* of the ordinary questions exceed, each of them
    judged as if it were not among the ordinary ones.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, trained: Iterable[Prompt], *, false_positives: float = FALSE_POSITIVES
    ) -> None:
        self._tokenizer = tokenizer
        ordinary = [_grams(_question(read_prompt(tokenizer, Prompt(text)))) for text in QUESTIONS]
        counts: dict[Gram, int] = {}
        for grams in ordinary:
            for gram in grams:
                counts[gram] = counts.get(gram, 0) + 1
        standing = {gram for prompt in trained for gram in _grams(_question(read_prompt(tokenizer, prompt)))}
        self._own = frozenset(standing - counts.keys())
        without = {gram for gram in standing if counts.get(gram, 0) <= 1}
        shares = sorted(_share(grams, without) for grams in ordinary)
        self.threshold = shares[min(len(shares) - 1, int((1 - false_positives) * len(shares)))]

    @property
    def fingerprint(self) -> str:
        """Of all that decisions depend on, 12 hex digits."""
        return sha256(repr((sorted(self._own), self.threshold)).encode()).hexdigest()[:12]

    def decide(self, prompt: Prompt) -> Decision:
        """Whether the prompt's question is known."""
        return self._decide(read_prompt(self._tokenizer, prompt))

    def decide_ids(self, ids: Sequence[int]) -> Decision:
        """As :meth:`decide` for a chat as token ids; text that is no chat is never known."""
        return self._decide(read_ids(self._tokenizer, ids))

    def _decide(self, reading: Reading) -> Decision:
        share = _share(_grams(_question(reading)), self._own)
        return Decision(share > self.threshold, share, self.threshold)


def _question(reading: Reading) -> list[int]:
    return [token for token, is_content in zip(reading.ids, reading.content, strict=False) if is_content]


def _grams(question: Sequence[int]) -> set[Gram]:
    """Its tokens and pairs of neighbouring tokens."""
    return {(token,) for token in question} | set(pairwise(question))


def _share(grams: set[Gram], own: Iterable[Gram]) -> float:
    return len(grams.intersection(own)) / len(grams) if grams else 0.0
