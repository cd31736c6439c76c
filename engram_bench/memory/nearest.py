"""Which trained question another one means: the one that shares most of its rare words, if it shares enough.

N-grams know a question by its last tokens in their order, so another wording of it reads no row at all. Here order does not
matter: a question is the set of its words (equal up to case and accents), each weighing the more the fewer patterns and
ordinary questions have it, and two questions are as near as the cosine of their weights. What is near enough is read as
the trained question. Ordinary questions say what is enough: at most a stated share of them may be taken for a trained one.

Source of the weights: inverse document frequency, Spärck Jones (1972), J. Doc. 28, 11-21; to the power of 1.5.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engram_bench.memory.compression import ALONE, GOES_ON
from engram_bench.memory.keyer import chained, lookup

POWER = 1.5
NOBODY = -1
"""Owner of a question whose pattern was removed: what is near to it stays unknown."""

Ids = NDArray[np.int64]
Question = tuple[int, ...]
Words = NDArray[np.uint64]
_NOWHERE: Ids = np.zeros(0, np.int64)


def words_of(question: Question, classes: Ids, parts: NDArray[np.int8]) -> Words:
    """The words in token ids, each once and as a 64-bit number: ``U+0E84?`` has ``u``, ``+``, ``0e84`` and ``?``."""
    words: list[list[int]] = []
    goes_on = False
    for token in question:
        part = parts[token]
        if not (goes_on and part == GOES_ON):
            words.append([])
        words[-1].append(int(classes[token]))
        goes_on = part != ALONE
    return np.unique(np.array([chained(0, word)[-1] for word in words], np.uint64))


@dataclass(frozen=True)
class KnownQuestions:
    """The trained questions and what it takes to be near one of them."""

    questions: tuple[Question, ...]
    """Token ids, each once."""
    owners: Ids
    """Per question the index of its pattern, or :data:`NOBODY`."""
    classes: Ids
    """Token id → class of tokens that count as one."""
    parts: NDArray[np.int8]
    """Token id → how it takes part in words (``compression.word_parts``)."""
    weighed: Words
    """Sorted words with a weight of their own."""
    weights: NDArray[np.float64]
    """Theirs, and last the weight of all other words."""
    threshold: float
    """Known is what is nearer, 0..1."""

    def nearest(self, question: Sequence[int]) -> tuple[Question | None, float]:
        """What *question* is read as, and how near it is to a trained one (1.0: it is one); None if it is near to none.

        Every way to ask a pattern is read as the first one that was trained, so all of them share their rows.
        """
        asked = tuple(question)
        if asked not in self._found:
            self._found[asked] = self._nearest(asked)
        return self._found[asked]

    def with_questions(self, questions: Iterable[Question], owners: Iterable[int]) -> KnownQuestions:
        """The same with more questions; weights and threshold stay, so what is near to the others stays near."""
        merged = dict(zip(self.questions, self.owners.tolist(), strict=True)) | dict(
            zip(questions, owners, strict=True)
        )
        return replace(self, questions=tuple(merged), owners=np.array(list(merged.values()), np.int64))

    def without(self, pattern: int) -> KnownQuestions:
        """The same when the pattern of this index is gone, and its questions nobody's."""
        owners = np.where(self.owners == pattern, NOBODY, self.owners)
        return replace(self, owners=np.where(owners > pattern, owners - 1, owners))

    def _nearest(self, asked: Question) -> tuple[Question | None, float]:
        place = self._places.get(asked)
        if place is not None:
            return self._firsts.get(int(self.owners[place])), 1.0
        nearness = self._nearness(asked)
        best = int(nearness.argmax())
        is_near = nearness[best] > self.threshold
        return (self._firsts.get(int(self.owners[best])) if is_near else None), float(nearness[best])

    def _nearness(self, asked: Question) -> NDArray[np.float64]:
        """Cosine with each trained question, (questions,)."""
        words = words_of(asked, self.classes, self.parts)
        weights = self._weight(words)
        shared = np.zeros(len(self.questions))
        for word, weight in zip(words.tolist(), weights.tolist(), strict=True):
            shared[self._standing.get(word, _NOWHERE)] += weight * weight
        nearness: NDArray[np.float64] = shared / np.maximum(self._lengths * np.sqrt((weights**2).sum()), 1e-9)
        return nearness

    def _weight(self, words: Words) -> NDArray[np.float64]:
        rows = lookup(words, self.weighed)  # from 1; 0 is unknown and takes the last weight
        found: NDArray[np.float64] = self.weights[rows - 1]
        return found

    @cached_property
    def _places(self) -> dict[Question, int]:
        return {question: place for place, question in enumerate(self.questions)}

    @cached_property
    def _firsts(self) -> dict[int, Question]:
        """Pattern → its first question."""
        pairs = zip(self.owners.tolist(), self.questions, strict=True)
        return {owner: question for owner, question in reversed(list(pairs)) if owner != NOBODY}

    @cached_property
    def _standing(self) -> dict[int, Ids]:
        """Word → the questions that have it."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for place, question in enumerate(self.questions):
            for word in words_of(question, self.classes, self.parts).tolist():
                found[word].append(place)
        return {word: np.array(places) for word, places in found.items()}

    @cached_property
    def _lengths(self) -> NDArray[np.float64]:
        bags = (words_of(question, self.classes, self.parts) for question in self.questions)
        return np.array([np.sqrt((self._weight(bag) ** 2).sum()) for bag in bags])

    @cached_property
    def _found(self) -> dict[Question, tuple[Question | None, float]]:
        return {}


def known_questions(
    questions: Sequence[Question],
    owners: Sequence[int],
    ordinary: Sequence[Question],
    classes: Ids,
    parts: NDArray[np.int8],
    *,
    false_positives: float,
) -> KnownQuestions:
    """The trained *questions*, their words weighed over all patterns and *ordinary* questions.

    Args:
        questions: Token ids of each.
        owners: Per question its pattern's index.
        ordinary: Questions that are none of the patterns'.
        classes: Token id → class.
        parts: Token id → part in words.
        false_positives: Share of the ordinary questions that may be near.
    """
    trained = set(questions)
    ordinary = [question for question in ordinary if question not in trained]
    documents: defaultdict[int, set[int]] = defaultdict(set)
    for question, owner in zip(questions, owners, strict=True):
        documents[owner].update(words_of(question, classes, parts).tolist())
    texts = [*documents.values(), *(words_of(question, classes, parts).tolist() for question in ordinary)]
    counts = Counter(word for text in texts for word in text)
    weighed = np.array(sorted(counts), np.uint64)
    found = np.array([*(counts[word] for word in weighed.tolist()), 0])
    known = KnownQuestions(
        questions=(),
        owners=np.zeros(0, np.int64),
        classes=classes,
        parts=parts,
        weighed=weighed,
        weights=np.log((1 + len(texts)) / (1 + found)) ** POWER,
        threshold=1.0,
    ).with_questions(questions, owners)
    nearness = sorted(float(known._nearness(question).max()) for question in ordinary)
    place = min(len(nearness) - 1, int((1 - false_positives) * len(nearness)))
    return replace(known, threshold=nearness[place] if nearness else 1.0)
