"""The open registry: names, outcomes, and that nothing a matcher does is ever a false pass or a false miss."""

import doctest
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench import matchers
from engram_bench.errors import UsageError
from engram_bench.matchers import answer_problem, match, names, register, registry
from engram_bench.records import Score

SHIPPED = ("exact", "strict", "prefix", "contains", "regex", "python", "json", "number", "date")


Register = Callable[[str, Any], None]
Install = Callable[..., None]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Register matchers that are forgotten after the test."""
    monkeypatch.setattr(registry, "_registered", {})
    return register


def test_names_start_with_the_shipped_matchers() -> None:
    assert names()[: len(SHIPPED)] == SHIPPED


def test_unknown_matcher_is_named_with_the_known_ones_and_a_guess() -> None:
    with pytest.raises(
        UsageError, match=r"'contain' is unknown, expected one of exact, .*date.* \(did you mean 'contains'"
    ):
        match("contain", "404", ("404",))


@pytest.mark.parametrize(
    ("name", "text", "answers", "score"),
    [
        ("exact", "404", ("404",), Score("passed")),
        ("exact", "404 Not Found", ("404", "404 Not Found"), Score("passed")),
        ("exact", "405", ("404",), Score("failed", "found '405', expected '404'")),
        ("exact", "5", ("1", "2", "3"), Score("failed", "found '5', expected '1' (nor any of 2 other accepted)")),
        ("exact", "404", (), Score("not_scored", "the case has no accepted answer to compare with")),
        ("regex", "404", ("(", "404"), Score("passed")),
        ("json", "[1]", ("[2]", "["), None),
        ("exact", "4" * 16_385, ("4",), Score("failed", "found 16385 characters, expected at most 16384")),
    ],
    ids=["pass", "accept", "miss", "miss-all", "no-answer", "broken-other", "broken-accept", "long"],
)
def test_match_scores(name: str, text: str, answers: tuple[str, ...], score: Score | None) -> None:
    expected = score or Score(
        "not_scored", "matcher 'json': answer '[' is not JSON: Expecting value: line 1 column 2 (char 1)"
    )

    assert match(name, text, answers) == expected


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("text", ["", "404"])
def test_a_blank_answer_is_never_a_pass(name: str, text: str) -> None:
    assert match(name, text, (" ",)).outcome == "not_scored"


@given(st.permutations(["404", "(", "40[45]", "500"]), st.sampled_from(["404", "405", "500", "nothing"]))
def test_order_of_answers_never_changes_the_outcome(answers: list[str], text: str) -> None:
    outcome = {"nothing": "not_scored"}.get(text, "passed")

    assert match("regex", text, answers).outcome == outcome


@pytest.mark.parametrize(
    ("said", "score"),
    [
        (True, Score("passed")),
        (False, Score("failed", "found 'blue', expected 'red'")),
        ("", Score("failed", "found 'blue', expected 'red'")),
        ("not a warm colour", Score("failed", "not a warm colour")),
        (Score("not_scored", "the judge is away"), Score("not_scored", "the judge is away")),
        (None, Score("not_scored", "matcher 'own' returned None, expected a bool, a reason or a Score")),
        (1, Score("not_scored", "matcher 'own' returned 1, expected a bool, a reason or a Score")),
    ],
    ids=["true", "false", "no-reason", "reason", "score", "none", "number"],
)
def test_what_a_registered_matcher_says(own: Register, said: object, score: Score) -> None:
    own("own", lambda text, answer: said)

    assert match("own", "blue", ("red",)) == score


def test_a_crash_is_not_scored_and_says_where(own: Register) -> None:
    own("own", lambda text, answer: 1 / 0)

    score = match("own", "blue", ("red",))

    assert score.outcome == "not_scored"
    assert "matcher 'own' crashed at " in score.reason
    assert "test_registry.py:" in score.reason
    assert score.reason.endswith("ZeroDivisionError('division by zero')")


@pytest.mark.parametrize("name", ["exact", "own"], ids=["shipped", "registered"])
def test_a_taken_name_is_refused(own: Register, name: str) -> None:
    own("own", lambda text, answer: True)

    with pytest.raises(UsageError, match=f"matcher '{name}' is already registered"):
        own(name, lambda text, answer: True)


def test_registering_the_same_matcher_twice_is_fine(own: Register) -> None:
    for _ in range(2):
        own("own", str.startswith)

    assert names()[-1] == "own"
    assert match("own", "reddish", ("red",)).passed


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make names of the entry-point group come from these targets."""

    def install(**targets: str) -> None:
        points = {name: EntryPoint(name, target, registry.GROUP) for name, target in targets.items()}
        monkeypatch.setattr(registry, "_entry_points", lambda: points)

    return install


def test_an_entry_point_brings_a_matcher(entry_point: Install) -> None:
    entry_point(samefile="operator:eq")

    assert "samefile" in names()
    assert match("samefile", "a", ("a",)) == Score("passed")


def test_an_entry_point_cannot_replace_a_shipped_matcher(entry_point: Install) -> None:
    entry_point(exact="operator:ne")

    assert match("exact", "a", ("a",)).passed
    assert names().count("exact") == 1


def test_an_entry_point_that_does_not_load_is_not_scored(entry_point: Install) -> None:
    entry_point(gone="no_such_module:matcher")

    score = match("gone", "a", ("a",))

    assert score.outcome == "not_scored"
    assert "No module named 'no_such_module'" in score.reason


@pytest.mark.parametrize(
    ("name", "answer", "problem"),
    [
        ("exact", "404", None),
        ("exact", " \n", "answer is ' \\n', expected at least one character besides whitespace"),
        ("somebody_elses", "", "answer is '', expected at least one character besides whitespace"),
        ("regex", "404.*", None),
        ("regex", "(", "pattern '(' does not compile: missing ) at position 1"),
        ("python", "for x in", "answer 'for x in' is not Python"),
        ("json", "{", "answer '{' is not JSON"),
        ("number", "many", "answer 'many' has no number"),
        ("date", "today", "answer 'today' has no date"),
        ("somebody_elses", "(", None),
    ],
)
def test_answer_problem_finds_answers_that_nothing_could_match(name: str, answer: str, problem: str | None) -> None:
    found = answer_problem(name, answer)

    assert found == problem or (found and problem and found.startswith(problem))


@given(st.sampled_from([name for name in SHIPPED if name != "regex"]), st.text(min_size=1))
def test_every_usable_answer_matches_itself(name: str, answer: str) -> None:
    if answer_problem(name, answer) is None:
        assert match(name, answer, (answer,)) == Score("passed")


def test_the_examples_of_the_package_hold() -> None:
    assert doctest.testmod(matchers).failed == 0


def test_importing_matchers_loads_nothing_heavy() -> None:
    heavy = "{'regex', 'pydantic', 'numpy', 'scipy', 'torch', 'transformers'}"
    code = f"import sys, engram_bench.matchers; print(sorted({heavy} & {{*sys.modules}}))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


HOSTILE = {
    "end-marks": "a" + " ." * 8_000,
    "open-fences": "```\n" * 4_000,
    "tildes": "~~~a" * 4_000,
    "nested-fences": "~~~\n" * 2_000 + "a" + "\n~~~" * 2_000,
    "stacked-accents": "a" + "\u0315\u0300" * 8_000,
    "brackets": "[1," * 5_000,
    "thousands": "1," * 8_000,
    "months": "5 march " * 2_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", SHIPPED)
def test_no_text_takes_long_to_compare(name: str, text: str) -> None:
    answer = {"number": "7.5", "date": "2024-03-05", "json": "1"}.get(name, "x")
    started = time.process_time()

    score = match(name, text, (answer,))

    assert score.outcome == "failed"
    assert time.process_time() - started < 3
