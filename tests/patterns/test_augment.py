import pytest
from hypothesis import given

from engram_bench.patterns.augment import prefixed, rephrased
from tests.patterns.strategies import questions

REPHRASED = {
    "what-is-the": ("What is the big-O of merge sort?", "Tell me the big-O of merge sort."),
    "noun-phrase": ("Default port of SSH?", "What is the default port of SSH?"),
    "acronym": ("HTTP status code for 'Created'?", "I need the HTTP status code for 'Created'."),
    "hyphenated": ("Worst-case time of bubble sort?", "Do you know the worst-case time of bubble sort?"),
    "proper-noun": ("Python keyword for a lambda?", "Tell me the Python keyword for a lambda."),
    "which-noun-does": (
        "Which git command puts uncommitted changes aside?",
        "Tell me the git command that puts uncommitted changes aside.",
    ),
    "verb-alone": ("Which pip command helps?", "Name the pip command that helps."),
    "which-noun-do-I": ("What line do I add?", "Tell me which line to add."),
    "what-do-I": ("What do I install with pip?", "Tell me what to install with pip."),
    "which": ("Which exception does 1 / 0 raise?", "What exception does 1 / 0 raise?"),
    "how-many": ("How many bytes are in one KiB?", "Tell me how many bytes are in one KiB."),
    "how-do-I": ("How do I swap a and b?", "Show me how to swap a and b."),
    "imperative": ("Write 255 in hexadecimal.", "How do I write 255 in hexadecimal?"),
    "topic": ("SQL: number of rows in users", "Show me the SQL for this: number of rows in users"),
    "topic-with-verb": ("Python: swap a and b in one line", "How do I swap a and b in one line in Python?"),
    "topic-with-noun": (
        "Python: list comprehension that keeps the even x in nums",
        "What is the Python list comprehension that keeps the even x in nums?",
    ),
    "last-sentence": (
        "No module named 'yaml'. Which pip command fixes it?",
        "No module named 'yaml'. I need the pip command that fixes it.",
    ),
}


@pytest.mark.parametrize(("text", "variant"), REPHRASED.values(), ids=REPHRASED)
def test_a_sentence_is_turned_round(text: str, variant: str) -> None:
    assert variant in rephrased(text)


NOT_A_RULE = {
    "inverted": ("What does Python raise here?", []),
    "plural-noun": ("Which status codes mean success?", ["What status codes mean success?"]),
    "noun-not-verb": (
        "Python: count of x in items",
        [
            "How do I write this in Python: count of x in items?",
            "I need this in Python: count of x in items",
            "Show me the Python for this: count of x in items",
            "Count of x in items, in Python",
        ],
    ),
    "error-is-no-topic": ("TypeError: unhashable type", []),
    "statement": ("I lost my keys", []),
}


@pytest.mark.parametrize(("text", "variants"), NOT_A_RULE.values(), ids=NOT_A_RULE)
def test_a_rule_that_does_not_fit_gives_nothing(text: str, variants: list[str]) -> None:
    assert rephrased(text) == variants


def test_a_prefix_leaves_the_question_as_it_is() -> None:
    variants = prefixed("Default port of SSH?")

    assert all("Default port of SSH?" in variant for variant in variants)
    assert {"Answer briefly: Default port of SSH?", "Quick question: Default port of SSH?"} <= set(variants)


def test_an_afterthought_follows_a_finished_sentence() -> None:
    assert "SQL: rows in users. Keep it short." in prefixed("SQL: rows in users")
    assert "Two\nlines?\nKeep it short." in prefixed("Two\nlines?")


def test_only_a_question_is_announced_as_one() -> None:
    assert not any("question" in variant for variant in prefixed("Write 255 in hexadecimal."))


@given(text=questions)
def test_variants_are_other_texts_without_loose_ends(text: str) -> None:
    for variant in rephrased(text) + prefixed(text):
        assert variant != text
        assert variant == variant.strip()
