"""Which n-grams get a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engram_bench.errors import BackendError
from engram_bench.memory.compression import BEGINS
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.query import Query
from engram_bench.memory.table import KeyedExample, RowTable, build_table

CONFIG = MemoryConfig(orders=(2, 3, 5), layers=(0,), near=0.0)
HEAD, TAIL, END = [1, 2], [3, 4], 9


def prompt(*question: int) -> Query:
    return Query([*HEAD, *question, *TAIL], [False] * 2 + [True] * len(question) + [False] * 2)


def example(pattern: str, question: tuple[int, ...], answer: tuple[int, ...]) -> KeyedExample:
    return KeyedExample(pattern, prompt(*question), (*answer, END))


def hits(table: RowTable, *examples: KeyedExample) -> list[list[list[bool]]]:
    return [(table.rows([one.query], 0) > 0).tolist() for one in examples]


ONE = example("one", (50, 51, 52), (70,))


def test_the_place_that_predicts_the_answer_reads_the_questions_last_words() -> None:
    table = build_table(RowTable(CONFIG), [ONE])

    assert hits(table, ONE)[0][0] == [True, True, False, True]  # three tokens: none of order five


def test_places_before_the_answer_read_nothing() -> None:
    table = build_table(RowTable(CONFIG), [ONE])

    assert not table.rows([replace(ONE.prompt, first=0)], 0)[:-1].any()


def test_an_ngram_that_leads_to_different_answers_gets_no_row() -> None:
    other = example("other", (60, 51, 52), (71,))

    table = build_table(RowTable(CONFIG), [ONE, other])

    assert [position[0] for position in hits(table, ONE, other)] == [[False, True, False, True]] * 2


def test_an_ngram_that_leads_to_one_answer_from_two_patterns_is_shared() -> None:
    other = example("other", (60, 51, 52), (70,))

    table = build_table(RowTable(CONFIG), [ONE, other])

    one, two = table.owned
    assert len(np.intersect1d(one, two)) > 0


def test_an_ngram_of_an_ordinary_question_gets_no_row() -> None:
    ordinary = replace(prompt(80, 51, 52), first=6)

    table = build_table(RowTable(CONFIG), [ONE], background=[ordinary])

    assert hits(table, ONE)[0][0] == [False, True, False, True]


def test_a_short_ngram_needs_two_tokens_of_the_question() -> None:
    table = build_table(RowTable(CONFIG), [ONE])

    assert hits(table, ONE)[0][1] == [False, True, False, True]


def test_a_short_ngram_tells_nothing_where_no_pattern_is_meant() -> None:
    """Many questions end in two tokens of a trained one; those that end in five of them may be it in other words."""
    empty = RowTable(replace(CONFIG, near=1.0), classes=np.arange(100), parts=np.full(100, BEGINS, np.int8))
    trained = example("one", (50, 51, 52, 53, 54), (70,))
    background = [replace(prompt(80, 81, 60), first=6)]
    table = build_table(empty, [trained], background=background)
    assert table.known is not None
    table = replace(table, known=replace(table.known, threshold=0.999))
    ends_alike = example("", (90, 53, 54), (70,))
    ends_the_same = example("", (90, *trained.question), (70,))

    assert table.read_as(ends_alike.prompt) is table.read_as(ends_the_same.prompt) is None
    assert hits(table, trained)[0][0] == [True, True, True, True]
    assert not np.any(hits(table, ends_alike))
    assert hits(table, ends_the_same)[0][0] == [False, False, True, False]


def test_every_whole_question_has_a_row() -> None:
    examples = [example(str(number), (50, number), (number,)) for number in range(20)]

    table = build_table(RowTable(replace(CONFIG, orders=())), examples)

    assert len(table.keys) == 40


def test_one_question_with_two_answers_is_refused() -> None:
    with pytest.raises(BackendError, match="patterns 'one' and 'two' ask the same"):
        build_table(RowTable(CONFIG), [ONE, example("two", (50, 51, 52), (71,))])
