from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.records import Completion, Prompt, Score
from engram_bench.reporting.failure import failure_text
from tests.made_up import row

MISS = row("facts/http-404", "candidate", False, answers=("404", "404 Not Found"), line=14, prompt="Not Found?")


def completion(text: str, *, tokens: int = 3, cut: bool = False) -> Completion:
    return Completion(text, 30, tokens, "length" if cut else "stop", 0.1)


def test_a_miss_reads_like_this() -> None:
    text = failure_text(
        MISS.case,
        completion("The code for a page that is not\nfound is", tokens=32, cut=True),
        completion("405"),
        Score("failed", "found '405', expected '404'"),
    )

    assert text.splitlines() == [
        "found '405', expected '404'",
        "patterns/facts.yaml:14: facts/http-404 (exact)",
        "  prompt     Not Found?",
        "  expected   404",
        "  or         404 Not Found",
        "  baseline   The code for a page that is not",
        "             found is  (cut after 32 tokens)",
        "  candidate  405",
        "  diff       - expected, + candidate",
        "    - 404",
        "    + 405",
    ]


def test_a_diff_marks_the_characters() -> None:
    case = replace(MISS.case, answers=("for i, x in enumerate(items):\n    print(x)",))

    text = failure_text(case, None, completion("for i, x in enumerate(itens):\n    print(x)"), Score("failed"))

    assert text.splitlines()[-5:] == [
        "    - for i, x in enumerate(items):",
        "    ?                          ^",
        "    + for i, x in enumerate(itens):",
        "    ?                          ^",
        "          print(x)",
    ]


def test_a_system_prompt_is_shown_before_the_prompt() -> None:
    case = replace(MISS.case, prompt=Prompt("Not Found?", system="One word."))

    assert failure_text(case, None, None, Score("failed")).splitlines()[2:4] == [
        "  system     One word.",
        "  prompt     Not Found?",
    ]


def test_a_side_without_an_answer_says_so_and_has_no_diff() -> None:
    text = failure_text(MISS.case, None, None, Score("not_scored", "the backend failed"))

    assert text.count("(no answer)") == 2
    assert "diff" not in text


def test_an_answer_that_reads_the_same_has_no_diff() -> None:
    """A crash in a matcher, or a strict matcher that stumbles over what is not shown."""
    text = failure_text(MISS.case, None, completion("404"), Score("not_scored", "KeyError: 'x'"))

    assert "diff" not in text
    assert text.startswith("not scored: KeyError: 'x'\n")


def test_an_empty_answer_is_visible() -> None:
    text = failure_text(MISS.case, None, completion(""), Score("failed"))

    assert "  candidate  (empty)" in text


def test_a_control_without_an_answer_has_no_expectation() -> None:
    text = failure_text(replace(MISS.case, answers=()), completion("Hello"), completion("Hi"), Score("failed"))

    assert text.startswith("failed\n")
    assert "expected" not in text


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=()), max_size=3000))
def test_any_answer_is_bounded_and_harmless(answer: str) -> None:
    text = failure_text(MISS.case, completion(answer), completion(answer * 50), Score("failed", answer))

    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")) < 150
    assert max(map(len, text.split("\n"))) < 260


def test_reasoning_is_shown_below_the_answer_with_its_tokens() -> None:
    thoughtful = replace(completion("405", tokens=40), reasoning="It is 404.\nOr 405?", reasoning_tokens=36)
    endless = replace(completion("", tokens=32, cut=True), reasoning="It might be", reasoning_tokens=32)

    text = failure_text(MISS.case, endless, thoughtful, Score("failed", "found '405', expected '404'"))

    assert text.splitlines()[5:11] == [
        "  baseline   (empty)  (cut in its reasoning)",
        "  reasoning  It might be  (32 tokens)",
        "  candidate  405",
        "  reasoning  It is 404.",
        "             Or 405?  (36 tokens)",
        "  diff       - expected, + candidate",
    ]
