"""Which pattern a question means: the one whose trained questions share most of its rare words, if they share enough.

N-grams know a question by its last tokens in their order, so another wording of it reads no row at all. Here order does not
matter: a question is the set of its words (equal up to case and accents). It is as near to a pattern as the mean of two
cosines, with the nearest of the pattern's questions and with their centre, less for what it lacks of the words that all of
them have.

Which pattern may be meant and whether it is meant are two questions, and a word tells them two things. Which: words weigh the
more the fewer patterns and ordinary questions have them, so among many patterns of one kind the one word counts that is theirs
alone. Whether: they weigh the more the fewer ordinary questions have them, so what all patterns of that kind say counts as well,
and what is enough does not grow with their number. What is near enough is read as the pattern's first question. Ordinary
questions say what is enough: at most a stated share of them may be near to a pattern. And they compete: what is nearer to one
of them than to that pattern is unknown.

Sources: inverse document frequency, Spärck Jones (1972), J. Doc. 28, 11-21, to a power; the centre, Rocchio (1971), in Salton,
The SMART Retrieval System, 313-323.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

from engram_bench.memory.compression import ALONE, GOES_ON
from engram_bench.memory.keyer import chained, lookup


@dataclass(frozen=True, slots=True)
class Weighing:
    """Weight of words in a comparison of questions."""

    power: float
    """Power of a word's inverse document frequency."""
    lacking: float
    """Nearness lost by a question that has none of the words that all of a pattern's questions have."""


WHICH = Weighing(power=1.5, lacking=0.1)
WHETHER = Weighing(power=1.25, lacking=0.2)
UNMATCHED = -1
"""Owner of a question that no pattern asks, an ordinary one or a removed pattern's, and lower numbers of further ones. What
is nearest to such a question is unknown."""

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Question = tuple[int, ...]
Words = NDArray[np.uint64]


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
    """The trained and the ordinary questions, and what it takes to be near a pattern."""

    questions: tuple[Question, ...]
    """Token ids, each once."""
    owners: Ids
    """Index of the pattern of each question, or at most :data:`UNMATCHED`."""
    classes: Ids
    """Token id → class of tokens that count as one."""
    parts: NDArray[np.int8]
    """Token id → how it takes part in words (``compression.word_parts``)."""
    weighed: Words
    """Sorted words with a weight of their own."""
    which: Floats
    """Weights of these words in the search for the pattern that may be meant, and last the weight of all other words."""
    whether: Floats
    """Weights in the decision whether that pattern is meant, likewise."""
    threshold: float
    """Nearness above which a question is recognised, 0..1."""

    def nearest(self, question: Sequence[int]) -> tuple[Question | None, float]:
        """The trained question that *question* is read as, or None, and the nearness of the nearest (1.0: it is known itself).

        Every way to ask a pattern is read as the first one that was trained, so all of them share their rows.
        """
        asked = tuple(question)
        if asked not in self._found:
            self._found[asked] = self._nearest(asked)
        return self._found[asked]

    def unmatched(self, question: Sequence[int]) -> Question | None:
        """The question that *question* is nearest to, and near enough, if it is one that no pattern asks."""
        owner, nearness = self._closest(tuple(question))
        return self._firsts[owner] if owner <= UNMATCHED and nearness > self.threshold else None

    def with_questions(self, questions: Iterable[Question], owners: Iterable[int]) -> KnownQuestions:
        """The same with more questions; weights and threshold stay, so what is near to the others stays near."""
        merged = dict(zip(self.questions, self.owners.tolist(), strict=True)) | dict(
            zip(questions, owners, strict=True)
        )
        return replace(self, questions=tuple(merged), owners=np.array(list(merged.values()), np.int64))

    def without(self, pattern: int) -> KnownQuestions:
        """The same when the pattern of this index is gone, and its questions belong to no pattern."""
        unmatched = min(0, int(self.owners.min())) + UNMATCHED
        owners = np.where(self.owners == pattern, unmatched, self.owners)
        return replace(self, owners=np.where(owners > pattern, owners - 1, owners))

    def _nearest(self, asked: Question) -> tuple[Question | None, float]:
        owner, nearness = self._closest(asked)
        is_meant = owner > UNMATCHED and (nearness > self.threshold or asked in self._positions)
        return (self._firsts[owner] if is_meant else None), nearness

    def _closest(self, asked: Question) -> tuple[int, float]:
        """The owner that a question is nearest to, and how near."""
        if asked in self._positions:
            return int(self.owners[self._positions[asked]]), 1.0
        words = words_of(asked, self.classes, self.parts)
        which = self._by_which.nearness(words, self._weights(words, self.which))
        whether = self._by_whether.nearness(words, self._weights(words, self.whether))
        owners = self._by_whether.owners
        patterns = int(
            np.searchsorted(owners, UNMATCHED, side="right")
        )  # before them are those that belong to no pattern
        best = patterns + int(which[patterns:].argmax())
        if patterns and whether[:patterns].max() > whether[best]:
            best = int(whether[:patterns].argmax())
        return int(owners[best]), float(whether[best])

    def _weights(self, words: Words, weights: Floats) -> Floats:
        rows = lookup(words, self.weighed)  # from 1; 0 is unknown and takes the last weight
        found: Floats = weights[rows - 1]
        return found

    @cached_property
    def _by_which(self) -> _Index:
        return self._index(self.which, WHICH.lacking)

    @cached_property
    def _by_whether(self) -> _Index:
        return self._index(self.whether, WHETHER.lacking)

    def _index(self, weights: Floats, lacking: float) -> _Index:
        words = np.unique(np.concatenate(self._bags))
        return _Index.of(self._bags, self.owners, words, self._weights(words, weights), lacking)

    @cached_property
    def _bags(self) -> list[Words]:
        """The words of each question."""
        return [words_of(question, self.classes, self.parts) for question in self.questions]

    @cached_property
    def _positions(self) -> dict[Question, int]:
        return {question: position for position, question in enumerate(self.questions)}

    @cached_property
    def _firsts(self) -> dict[int, Question]:
        """Owner → its first question."""
        pairs = zip(self.owners.tolist(), self.questions, strict=True)
        return dict(reversed(list(pairs)))

    @cached_property
    def _found(self) -> dict[Question, tuple[Question | None, float]]:
        return {}


@dataclass(frozen=True, slots=True)
class _Index:
    """Words of Q questions of P patterns, V words in all."""

    words: Words
    """(V,), sorted."""
    owners: Ids
    """(P,)."""
    pattern: Ids
    """(Q,) index into *owners*."""
    questions: sparse.csr_array
    """(Q, V) weights, each row of length 1."""
    centres: sparse.csr_array
    """(P, V) the same of the patterns."""
    common: sparse.csr_array
    """(P, V) shares of the squared weight of the words that all of a pattern's questions have; a row sums to 1 or 0."""
    lacking: float
    """Nearness lost by a question that has none of those."""

    @classmethod
    def of(cls, bags: Sequence[Words], owners: Ids, words: Words, weights: Floats, lacking: float) -> _Index:
        """The index of questions with these words, of these *owners*."""
        ends = np.cumsum([0, *map(len, bags)])
        positions = np.searchsorted(words, np.concatenate(bags))
        has = sparse.csr_array((np.ones(len(positions)), positions, ends), shape=(len(bags), len(words)))
        unique, pattern = np.unique(owners, return_inverse=True)
        member = sparse.csr_array((np.ones(len(bags)), (pattern, np.arange(len(bags)))), shape=(len(unique), len(bags)))
        counts = member @ has  # (P, V): questions that have the word
        share = _of_length(counts, member.sum(1))
        weight = sparse.diags_array(weights)
        common = share.copy()
        common.data = (common.data > 1 - 1e-9) * weights[common.indices] ** 2
        return cls(
            words,
            unique,
            pattern,
            _of_length(has @ weight, linalg.norm(has @ weight, axis=1)),
            _of_length(share @ weight, linalg.norm(share @ weight, axis=1)),
            _of_length(common, common.sum(1)),
            lacking,
        )

    def nearness(self, words: Words, weights: Floats) -> Floats:
        """Nearness (P,) of a question with these words to each pattern, 0..1."""
        positions = lookup(words, self.words) - 1  # -1 is unknown
        asked, has = np.zeros((2, len(self.words)))
        asked[positions[positions >= 0]] = weights[positions >= 0] / max(float(np.linalg.norm(weights)), 1e-9)
        has[positions[positions >= 0]] = 1.0
        closest = np.zeros(len(self.owners))
        np.maximum.at(closest, self.pattern, self.questions @ asked)
        lacks = self.common.sum(1) - self.common @ has
        found: Floats = np.maximum(0, (closest + self.centres @ asked) / 2 - self.lacking * lacks)
        return found


def _of_length(rows: sparse.csr_array, lengths: NDArray[Any]) -> sparse.csr_array:
    """Each row divided by its length; a row of zeros stays as it is."""
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(lengths, 1e-9)) @ rows)


def known_questions(
    questions: Sequence[Question],
    owners: Sequence[int],
    ordinary: Sequence[Question],
    classes: Ids,
    parts: NDArray[np.int8],
    *,
    false_positives: float,
) -> KnownQuestions:
    """The trained *questions* and the *ordinary* ones, ready to be compared with others.

    Args:
        questions: Token ids of each question.
        owners: Index of the pattern of each question.
        ordinary: Questions that belong to no pattern; those that are trained do not count.
        classes: Token id → class.
        parts: Token id → part in words.
        false_positives: Share of the ordinary questions that may be near.
    """
    trained = set(questions)
    ordinary = [question for question in dict.fromkeys(ordinary) if question not in trained]
    documents: defaultdict[int, set[int]] = defaultdict(set)
    for question, owner in zip(questions, owners, strict=True):
        documents[owner].update(words_of(question, classes, parts).tolist())
    in_patterns = Counter(word for text in documents.values() for word in text)
    in_ordinary = Counter(word for question in ordinary for word in words_of(question, classes, parts).tolist())
    weighed = np.array(sorted(in_patterns | in_ordinary), np.uint64)

    def weights(weighing: Weighing, counts: Counter[int], num_texts: int) -> Floats:
        found = np.array([*(counts[word] for word in weighed.tolist()), 0])
        frequency: Floats = np.log((1 + num_texts) / (1 + found))
        return frequency**weighing.power

    known = KnownQuestions(
        questions=(),
        owners=np.zeros(0, np.int64),
        classes=classes,
        parts=parts,
        weighed=weighed,
        which=weights(WHICH, in_patterns + in_ordinary, len(documents) + len(ordinary)),
        whether=weights(WHETHER, in_ordinary, len(ordinary)),
        threshold=1.0,
    ).with_questions(questions, owners)
    nearness = sorted(known._closest(question)[1] for question in ordinary)
    position = min(len(nearness) - 1, int((1 - false_positives) * len(nearness)))
    unmatched = range(UNMATCHED, UNMATCHED - len(ordinary), -1)
    return replace(known, threshold=nearness[position] if nearness else 1.0).with_questions(ordinary, unmatched)
