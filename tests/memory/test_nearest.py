"""Which trained question another one means."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engram_bench.errors import BackendError
from engram_bench.memory.compression import ALONE, BEGINS, GOES_ON
from engram_bench.memory.config import MemoryConfig, checked
from engram_bench.memory.nearest import UNMATCHED, WHETHER, WHICH, KnownQuestions, known_questions, words_of
from engram_bench.memory.query import Query, key_context

PORT, OF, SSH, HTTP, DEFAULT, WHAT, IS, THE, Ssh = range(9)
CLASSES = np.array([0, 1, 2, 3, 4, 5, 6, 7, 2])  # Ssh counts as SSH
PARTS = np.array([BEGINS] * 8 + [GOES_ON], np.int8)
QUESTIONS = [(DEFAULT, PORT, OF, SSH), (DEFAULT, PORT, OF, HTTP)]
ORDINARY = [(WHAT, IS, THE, PORT), (WHAT, IS, THE)]


@pytest.fixture
def known() -> KnownQuestions:
    return known_questions(QUESTIONS, [0, 1], ORDINARY, CLASSES, PARTS, false_positives=0.0)


def test_a_trained_question_is_itself(known: KnownQuestions) -> None:
    assert known.nearest(QUESTIONS[1]) == (QUESTIONS[1], 1.0)


def test_every_wording_of_a_pattern_is_read_as_its_first(known: KnownQuestions) -> None:
    wording = (WHAT, SSH)
    grown = known.with_questions([wording], [0])

    assert grown.nearest(wording) == (QUESTIONS[0], 1.0)


@pytest.mark.parametrize("asked", [(SSH, DEFAULT, PORT), (WHAT, IS, THE, DEFAULT, PORT, OF, SSH), (Ssh, OF, WHAT)])
def test_the_same_tokens_in_other_words_mean_it(known: KnownQuestions, asked: tuple[int, ...]) -> None:
    assert known.nearest(asked)[0] == QUESTIONS[0]


def test_an_ordinary_question_is_unknown(known: KnownQuestions) -> None:
    assert known.nearest(ORDINARY[0]) == (None, 1.0)


@pytest.mark.parametrize(("share", "is_known"), [(0.6, True), (0.0, False)])
def test_ordinary_questions_say_what_is_near_enough(share: float, is_known: bool) -> None:
    classes, parts = np.arange(20), np.array([BEGINS] * 20, np.int8)
    ordinary = [(WHAT, IS), (DEFAULT, PORT, OF, IS)]
    known = known_questions(QUESTIONS, [0, 1], ordinary, classes, parts, false_positives=share)

    assert (known.nearest((SSH, *range(Ssh, 20)))[0] is not None) == is_known
    assert known.nearest((DEFAULT, PORT, SSH))[0] == QUESTIONS[0]


def test_what_is_nearer_to_an_ordinary_question_is_unknown() -> None:
    asked = (THE, PORT, WHAT)
    alone = known_questions(QUESTIONS, [0, 1], [(IS,)], CLASSES, PARTS, false_positives=0.9)
    beside = known_questions(QUESTIONS, [0, 1], [(IS,), (*asked, IS)], CLASSES, PARTS, false_positives=0.9)

    assert alone.nearest(asked)[0] == QUESTIONS[0]
    assert beside.threshold == 0
    assert beside.nearest(asked)[0] is None
    assert beside.nearest(asked)[1] > 0.9


def test_what_is_enough_does_not_grow_with_the_patterns() -> None:
    """Among many ports, what they are called says which one is meant, and "port" still says that one is."""
    names = range(20, 120)
    classes, parts = np.arange(120), np.array([BEGINS] * 120, np.int8)
    ports = [(DEFAULT, PORT, OF, name) for name in names]
    ordinary = [(WHAT, IS, THE, name) for name in names[:3]]
    few = known_questions(ports[:5], range(5), ordinary, classes, parts, false_positives=0.0)
    many = known_questions(ports, range(100), ordinary, classes, parts, false_positives=0.0)

    assert many.threshold == pytest.approx(few.threshold)
    for asked in [(PORT, OF, 23), (WHAT, PORT, 20)]:
        assert few.nearest(asked)[0] == many.nearest(asked)[0] == (DEFAULT, PORT, OF, asked[-1])
    assert many.nearest((WHAT, IS, Ssh, 22))[0] is None


def test_a_pattern_may_be_added_that_asks_an_ordinary_question(known: KnownQuestions) -> None:
    grown = known.with_questions([ORDINARY[1]], [2])

    assert grown.nearest(ORDINARY[1]) == (ORDINARY[1], 1.0)


def test_a_question_without_a_common_token_is_near_to_none() -> None:
    known = known_questions(QUESTIONS, [0, 1], [(THE,)], CLASSES, PARTS, false_positives=0.0)

    assert known.nearest((WHAT, IS)) == (None, 0.0)


def test_what_all_ways_to_ask_have_in_common_counts_most(known: KnownQuestions) -> None:
    """One of the patterns is always asked with HTTP, the other is not always asked with SSH."""
    asked = known.with_questions([(WHAT, PORT), (WHAT, HTTP)], [0, 1])
    lacking = (DEFAULT, PORT, OF)

    assert asked.nearest((*lacking, WHAT))[0] == QUESTIONS[0]


questions = st.lists(st.integers(0, 7), min_size=1, max_size=6).map(tuple)


@given(st.lists(st.tuples(questions, st.integers(0, 3)), min_size=1, max_size=8, unique_by=lambda p: p[0]), questions)
def test_nearness_is_what_it_is_said_to_be(trained: list[tuple[tuple[int, ...], int]], asked: tuple[int, ...]) -> None:
    """The definition, word by word."""
    known = known_questions(
        [q for q, _ in trained], [o for _, o in trained], ORDINARY, CLASSES, PARTS, false_positives=0.1
    )
    everything = list(zip(known.questions, known.owners.tolist(), strict=True))

    def cosine(one: dict[int, float], other: dict[int, float]) -> float:
        lengths = [math.sqrt(sum(w * w for w in bag.values())) for bag in (one, other)]
        return sum(one[word] * other[word] for word in one.keys() & other.keys()) / max(lengths[0] * lengths[1], 1e-9)

    def nearness(values: NDArray[np.float64], lacking: float) -> dict[int, float]:
        def weights(question: tuple[int, ...]) -> dict[int, float]:
            words = words_of(question, CLASSES, PARTS)
            return dict(zip(words.tolist(), known._weights(words, values).tolist(), strict=True))

        mine = weights(asked)
        found = {}
        for owner in sorted({owner for _, owner in everything}):
            bags = [weights(question) for question, of in everything if of == owner]
            shares = Counter(word for bag in bags for word in bag)
            weight = {word: w for bag in bags for word, w in bag.items()}
            centre = {word: weight[word] * count / len(bags) for word, count in shares.items()}
            common = {word: weight[word] ** 2 for word, count in shares.items() if count == len(bags)}
            lacks = sum(w for word, w in common.items() if word not in mine) / max(sum(common.values()), 1e-9)
            closest = max(cosine(mine, bag) for bag in bags)
            found[owner] = max(0.0, (closest + cosine(mine, centre)) / 2 - lacking * lacks)
        return found

    which, whether = nearness(known.which, WHICH.lacking), nearness(known.whether, WHETHER.lacking)
    best = max(near for owner, near in which.items() if owner > UNMATCHED)
    candidates = [owner for owner, near in which.items() if owner > UNMATCHED and near > best - 1e-6]
    unmatched = max((near for owner, near in whether.items() if owner <= UNMATCHED), default=0.0)

    owner, near = known._closest(asked)

    if asked in known.questions:
        assert (owner, near) == (dict(everything)[asked], 1.0)
    elif owner > UNMATCHED:
        assert owner in candidates
        assert near == pytest.approx(whether[owner], abs=1e-6)
        assert near >= unmatched - 1e-6
    else:
        assert near == pytest.approx(unmatched, abs=1e-6)
        assert any(near > whether[candidate] - 1e-6 for candidate in candidates)


def test_removed_patterns_stay_patterns_of_their_own(known: KnownQuestions) -> None:
    grown = known.with_questions([(WHAT, SSH)], [2])

    left = grown.without(0).without(0)

    assert left.owners.tolist() == [UNMATCHED - 2, UNMATCHED - 3, UNMATCHED, UNMATCHED - 1, 0]  # two are ordinary
    assert left.nearest((WHAT, Ssh, SSH))[0] == (WHAT, SSH)


def test_what_is_near_to_a_removed_question_is_unknown(known: KnownQuestions) -> None:
    left = known.without(0)

    assert left.owners.tolist() == [UNMATCHED - 2, 0, UNMATCHED, UNMATCHED - 1]
    assert left.nearest(QUESTIONS[0])[0] is None
    assert left.nearest((PORT, OF, SSH))[0] is None
    assert left.nearest((PORT, OF, HTTP)) == known.nearest((PORT, OF, HTTP))


def test_an_added_question_changes_unmatcheds_nearness(known: KnownQuestions) -> None:
    grown = known.with_questions([(WHAT, SSH)], [2])

    assert grown.threshold == known.threshold
    assert grown.nearest((PORT, OF, HTTP)) == known.nearest((PORT, OF, HTTP))


def test_the_answers_places_see_the_trained_question() -> None:
    query = Query([90, PORT, OF, Ssh, 91, 7, 8], [False, True, True, True, False], 4)
    context, consults = key_context(query, MemoryConfig(), QUESTIONS[0])

    assert list(context.tokens) == [*QUESTIONS[0], 7, 8]
    assert list(context.ends) == [4, 5, 6]
    assert consults.all()


def test_parts_of_a_word_are_one_word() -> None:
    """Numbers are spelled out by the model's tokens: two with the same digits are two words."""
    digits, parts = np.arange(4), np.array([GOES_ON, GOES_ON, BEGINS, ALONE], np.int8)
    found = {question: words_of(question, digits, parts).tolist() for question in ((0, 1), (1, 0), (2, 0), (0, 3, 1))}

    assert [len(words) for words in found.values()] == [1, 1, 1, 3]
    assert len({words[0] for words in list(found.values())[:3]}) == 3


def test_hashed_addresses_read_every_question_as_it_is() -> None:
    with pytest.raises(BackendError, match=r"near is 0\.1, expected 0 unless addresses are exact"):
        checked(replace(MemoryConfig(), addressing="hashed", whole=False, near=0.1))
