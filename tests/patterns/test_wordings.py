import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.patterns.wordings import normalise_prompt


@pytest.mark.parametrize(
    "text",
    [
        "what is the iso date of the unix epoch",
        "What is the ISO date of the Unix epoch?",
        "  WHAT is the\n ISO date, of the Unix epoch ?!",
        "What is the “ISO” date of the 'Unix epoch'…",
        "Ｗhat is the ISO date of the Unix epoch？",
    ],
    ids=["plain", "usual", "spaced", "quoted", "full-width"],
)
def test_wordings_that_sound_the_same_are_the_same(text: str) -> None:
    assert normalise_prompt(text) == "what is the iso date of the unix epoch"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does git branch -d do?", "What does git branch -D do?"),
        ("strftime %y?", "strftime %Y?"),
        ("Who made C?", "Who made C++?"),
        ("Write userName in kebab-case.", "Write UserName in kebab-case."),
        ("What does ! mean in bash?", "What does : mean in bash?"),
        ("Is a or A larger?", "Is A or A larger?"),
        ("gitignore", ".gitignore"),
    ],
    ids=["flags", "format-codes", "signs", "camel-case", "punctuation", "letters", "dot-file"],
)
def test_what_tells_technical_questions_apart_stays(one: str, other: str) -> None:
    assert normalise_prompt(one) != normalise_prompt(other)


@given(text=st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise_prompt(text)

    assert normalise_prompt(once) == once


@given(text=st.text(st.characters(codec="ascii")), spaces=st.sampled_from([" ", "\n", "\t ", "\u00a0"]))
def test_spacing_never_counts(text: str, spaces: str) -> None:
    assert normalise_prompt(spaces.join(text.split())) == normalise_prompt(" ".join(text.split()))


@pytest.mark.parametrize(
    ("one", "other"), [("Name of 10⁶?", "Name of 106?"), ("x² is?", "x2 is?"), ("in Maßen", "in Massen")]
)
def test_prompts_of_other_meaning_are_other_prompts(one: str, other: str) -> None:
    assert normalise_prompt(one) != normalise_prompt(other)
