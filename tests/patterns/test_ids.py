import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.patterns.ids import default_ids
from tests.patterns.strategies import texts

QUESTION_LISTS = st.lists(st.tuples(texts, texts), max_size=8, unique=True)


@pytest.mark.parametrize(
    ("category", "text", "slug"),
    [
        ("http_codes", "HTTP status code for 'Not Found'?", "http-codes-http-status-code-for-not-found"),
        ("git", "What's HEAD~1?", "git-whats-head-1"),
        ("python", "a" * 80, "python"),
        (
            "python_loops",
            "Loop over the lists names and ages in parallel, as name and age",
            "python-loops-loop-over-the-lists-names-and-ages-in-parallel",
        ),
    ],
    ids=["words", "apostrophe", "one-long-word", "cut-at-a-word"],
)
def test_an_id_is_made_of_category_and_input(category: str, text: str, slug: str) -> None:
    assert default_ids([(category, text)]) == [slug]


def test_lost_letters_and_shared_slugs_get_a_hash() -> None:
    ids = default_ids(
        [("ports", "SSH?"), ("ports", "ssh!"), ("ports", "DNS"), ("Länder", "日本?")], taken={"ports-dns"}
    )

    assert [re.sub(r"-[0-9a-f]{6}$", "-#", name) for name in ids] == [
        "ports-ssh-#",
        "ports-ssh-#",
        "ports-dns-#",
        "lander-#",
    ]
    assert len(set(ids)) == 4


def test_equal_questions_get_equal_ids() -> None:
    assert default_ids([("ports", "SSH?"), ("ports", "SSH?")]) == ["ports-ssh", "ports-ssh"]


@given(questions=QUESTION_LISTS, data=st.data())
def test_ids_are_unique_and_stable_under_reordering(questions: list[tuple[str, str]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(questions))

    ids = dict(zip(questions, default_ids(questions), strict=True))

    assert len(set(ids.values())) == len(questions)
    assert dict(zip(shuffled, default_ids(shuffled), strict=True)) == ids
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) for name in ids.values())


def test_time_grows_with_the_length_of_a_row_of_accents_and_not_with_its_square() -> None:
    started = time.process_time()

    (name,) = default_ids([("facts", "a" + "\u0316\u0308" * 40_000)])

    assert name == "facts-a"
    assert time.process_time() - started < 2  # 0.1; 6 where a whole text was put in order
