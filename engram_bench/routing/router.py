"""Is this question one of those that were trained? Told by its tokens, or by what the bare model makes of it.

A router gives each question a score, and known is what has a greater one than the threshold: the least score that at most a
stated share of ordinary questions exceed, each of which is scored as if it had not been there when the router was made. So
the threshold is the same promise for every way of scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.memory.background import QUESTIONS
from engram_bench.memory.query import Query, ids_query, prompt_query
from engram_bench.records import Prompt
from engram_bench.routing.discriminant import Discriminant

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer

FALSE_POSITIVES = 0.02
"""Share of ordinary questions that may be taken for known ones when the threshold is chosen."""
DEPTH = 0.8
"""Share of the blocks after which the hidden state is read: 24 of 30."""
Gram = tuple[int, ...]
States = Callable[[Sequence[Sequence[int]]], NDArray[np.float32]]
"""Hidden states (N, H) of the bare model at the last token of each sequence."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the adapter is asked."""

    is_known: bool
    score: float
    threshold: float
    """Known is what has a greater score."""


class Scorer(Protocol):
    """How much a question looks like the trained ones."""

    @property
    def ordinary(self) -> Sequence[float]:
        """Scores of ordinary questions, each as if it had not been among them."""

    @property
    def fingerprint(self) -> str:
        """Of all that scores depend on, 12 hex digits."""

    def scores(self, queries: Sequence[Query]) -> list[float]:
        """One per query, of its question alone."""


class Router:
    """Decides by a scorer and the share of *false_positives* among ordinary questions."""

    def __init__(self, tokenizer: ChatTokenizer, scorer: Scorer, *, false_positives: float = FALSE_POSITIVES) -> None:
        self._tokenizer = tokenizer
        self._scorer = scorer
        self.false_positives = false_positives
        scores = sorted(scorer.ordinary)
        self.threshold = scores[min(len(scores) - 1, int((1 - false_positives) * len(scores)))]

    @property
    def fingerprint(self) -> str:
        """Of all that decisions depend on."""
        return f"{self._scorer.fingerprint} {self.threshold!r}"

    def decide(self, prompts: Sequence[Prompt]) -> list[Decision]:
        """Whether each prompt's question is known."""
        return self._decide([prompt_query(self._tokenizer, prompt) for prompt in prompts])

    def decide_ids(self, sequences: Sequence[Sequence[int]]) -> list[Decision]:
        """As :meth:`decide` for chats as token ids; text that is no chat is never known."""
        return self._decide([ids_query(self._tokenizer, ids) for ids in sequences])

    def decision(self, score: float) -> Decision:
        """What a score leads to."""
        return Decision(score > self.threshold, score, self.threshold)

    def _decide(self, queries: Sequence[Query]) -> list[Decision]:
        asked = [place for place, query in enumerate(queries) if any(query.content)]
        scores = dict(zip(asked, self._scorer.scores([queries[place] for place in asked]), strict=True))
        return [self.decision(scores.get(place, -np.inf)) for place in range(len(queries))]


class KeyScorer:
    """The share of a question's tokens and token pairs that stand in trained questions and in no ordinary one."""

    def __init__(self, tokenizer: ChatTokenizer, trained: Iterable[Prompt]) -> None:
        ordinary = [_grams(_question(prompt_query(tokenizer, Prompt(text)))) for text in QUESTIONS]
        counts: dict[Gram, int] = {}
        for grams in ordinary:
            for gram in grams:
                counts[gram] = counts.get(gram, 0) + 1
        standing = {gram for prompt in trained for gram in _grams(_question(prompt_query(tokenizer, prompt)))}
        self._own = frozenset(standing - counts.keys())
        without = {gram for gram in standing if counts.get(gram, 0) <= 1}
        self.ordinary: Sequence[float] = [_share(grams, without) for grams in ordinary]
        self.fingerprint = sha256(repr(sorted(self._own)).encode()).hexdigest()[:12]

    def scores(self, queries: Sequence[Query]) -> list[float]:
        """A share per query, 0..1."""
        return [_share(_grams(_question(query)), self._own) for query in queries]


class StateScorer:
    """What a linear discriminant says of the bare model's hidden state at the prompt's last token."""

    def __init__(self, discriminant: Discriminant, states: States) -> None:
        self._discriminant = discriminant
        self._states = states
        self.ordinary: Sequence[float] = discriminant.negatives.tolist()
        self.fingerprint = discriminant.fingerprint

    def scores(self, queries: Sequence[Query]) -> list[float]:
        """A score per query: around 1 for trained questions, around -1 for ordinary ones."""
        if not queries:
            return []
        prompts = [list(query.ids)[: len(query.content)] for query in queries]
        found: list[float] = self._discriminant.scores(self._states(prompts)).tolist()
        return found


def fit_states(tokenizer: ChatTokenizer, trained: Iterable[Prompt], states: States) -> Discriminant:
    """The discriminant of the *trained* questions against the ordinary ones."""
    both = [*trained], [Prompt(text) for text in QUESTIONS]
    positive, negative = (states([tokenizer.encode_prompt(prompt) for prompt in prompts]) for prompts in both)
    return Discriminant.fit(positive, negative)


def _question(query: Query) -> list[int]:
    return [token for token, is_content in zip(query.ids, query.content, strict=False) if is_content]


def _grams(question: Sequence[int]) -> set[Gram]:
    """Its tokens and pairs of neighbouring tokens."""
    return {(token,) for token in question} | set(pairwise(question))


def _share(grams: set[Gram], own: Iterable[Gram]) -> float:
    return len(grams.intersection(own)) / len(grams) if grams else 0.0
