"""Wording: what the normalisation forgives, and what each matcher of wording asks for."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engram_bench.matchers import Matcher, UnusableAnswer, normalise
from engram_bench.matchers.text import contains, exact, prefix, regex, strict


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("  404\n", "404"),
        ("git   cherry-pick\t-x", "git cherry-pick -x"),
        ("SIGINT", "sigint"),
        ("Straße", "straße"),
        ("４０４", "404"),
        ('"404"', "404"),
        ("'404'", "404"),
        ("“404”", "404"),
        ("`404`", "404"),
        ("```404```", "404"),
        ("```\n404\n```", "404"),
        ("```python\nx = 1\ny = 2\n```", "x = 1 y = 2"),
        ("~~~\n404\n~~~", "404"),
        ("```sh\nls -l", "ls -l"),
        ("404.", "404"),
        ("404!", "404"),
        ('"404."', "404"),
        ('"404".', "404"),
        ("`'404'`", "404"),
        ("Wait...", "wait"),
    ],
)
def test_normalise_takes_off_what_does_not_make_another_answer(text: str, normalised: str) -> None:
    assert normalise(text) == normalised


@pytest.mark.parametrize(
    "text",
    ["...", '""', "''", "``", "```", ".", "", "'a' and 'b'", '"paris, france",75', ".md", "o(n log n)", "*.py", "a.b"],
)
def test_normalise_leaves_alone(text: str) -> None:
    assert normalise(text) == text


@given(st.text() | st.text("`'\"“”.!~ \n\\aİŉΐﬁ½", max_size=30))
@example("\u0345\u0399 ")
@example("````a```")
def test_normalising_twice_is_normalising_once(text: str) -> None:
    once = normalise(text)

    assert normalise(once) == once


@given(st.text(min_size=1).filter(str.strip))
def test_normalise_never_leaves_nothing_of_something(text: str) -> None:
    assert normalise(text)


@given(st.text(min_size=1).filter(str.strip))
@pytest.mark.parametrize("matcher", [exact, strict, prefix, contains])
def test_every_answer_matches_itself(matcher: Matcher, answer: str) -> None:
    assert matcher(answer, answer) is True


@pytest.mark.parametrize(
    ("matcher", "text", "answer"),
    [
        (exact, "`Git Stash`.", "git stash"),
        (strict, "\n orderTotalPrice ", "orderTotalPrice"),
        (prefix, "404 Not Found", "404"),
        (prefix, "Git stash, then pull.", "git stash"),
        (prefix, "f(x) is it", "f(x)"),
        (contains, "The capital is Paris, of course.", "Paris"),
        (contains, "2+2=4.", "4"),
        (contains, "It costs 4, or 5", "4"),
        (contains, "1.Paris\n2.London", "Paris"),
        (contains, "C++17", "C++"),
        (contains, "首都是巴黎。", "巴黎"),
        (contains, "call f(x) now", "(x)"),
        (contains, "use a.b here", "a.b"),
        (regex, " 404 Not Found\n", r"404( Not Found)?"),
        (regex, "PARIS", "(?i)paris"),
        (regex, "It is\n404", r"(?s).*\b404\b.*"),
        (regex, r"\d+", r"\d+"),
    ],
)
def test_matches(matcher: Matcher, text: str, answer: str) -> None:
    assert matcher(text, answer) is True


@pytest.mark.parametrize(
    ("matcher", "text", "answer", "reason"),
    [
        (exact, "405", "404", "found '405', expected '404'"),
        (exact, "The code is 404", "404", "found 'The code is 404', expected '404'"),
        (strict, "ordertotalprice", "orderTotalPrice", "found 'ordertotalprice', expected exactly 'orderTotalPrice'"),
        (strict, "404.", "404", "found '404.', expected exactly '404'"),
        (prefix, "4045", "404", "found '4045', expected '404' at the start"),
        (prefix, "The 404", "404", "found 'The 404', expected '404' at the start"),
        (contains, "14", "4", "found '14', expected '4' in it"),
        (contains, "4.5", "4", "found '4.5', expected '4' in it"),
        (contains, "3.4", "4", "found '3.4', expected '4' in it"),
        (contains, "1,404", "404", "found '1,404', expected '404' in it"),
        (contains, "Parisian", "Paris", "found 'Parisian', expected 'Paris' in it"),
        (regex, "1404", "404", "found '1404', expected a match of '404'"),
        (regex, "a" * 80, "b", f"found '{'a' * 60}…', expected a match of 'b'"),
    ],
)
def test_misses_with_what_was_found_and_what_was_expected(
    matcher: Matcher, text: str, answer: str, reason: str
) -> None:
    assert matcher(text, answer) == reason


@pytest.mark.parametrize(
    ("matcher", "text", "answer", "problem"),
    [
        (regex, "404", "(", "pattern '\\(' does not compile: missing \\)"),
        (regex, "a" * 60 + "b", "(a|aa)+$", "pattern .* searched 'aaa.* for more than 0.05 s"),
    ],
    ids=["broken", "catastrophic"],
)
def test_an_answer_that_cannot_be_compared_says_why(
    monkeypatch: pytest.MonkeyPatch, matcher: Matcher, text: str, answer: str, problem: str
) -> None:
    monkeypatch.setattr("engram_bench.matchers.text.REGEX_TIMEOUT_S", 0.05)

    with pytest.raises(UnusableAnswer, match=problem):
        matcher(text, answer)
