import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.patterns.leaks import HeldOut, Leak
from engram_bench.records import Pattern, PatternSet, Prompt, SourceLine, TrainingExample

EPOCH = Pattern(
    id="epoch",
    input="When does Unix time start?",
    output="1970-01-01",
    category="dates",
    source=SourceLine("facts.yaml", 3),
    held_out=("What is the ISO date of the Unix epoch?", "From what day do Unix clocks count?"),
)
SETS = [PatternSet("facts", "facts.yaml", patterns=(EPOCH,))]


def example(text: str, answer: str = "1970-01-01") -> TrainingExample:
    return TrainingExample(Prompt(text), answer, "facts/epoch")


def test_a_leak_names_the_wording_and_the_example() -> None:
    leaked = example("what is the 'ISO date' of the Unix epoch")

    assert HeldOut(SETS).leaks([example("When does Unix time start?"), leaked]) == [
        Leak("facts/epoch/held-1", "What is the ISO date of the Unix epoch?", leaked, 1.0)
    ]
    assert str(HeldOut(SETS).leaks([leaked])[0]) == (
        "facts/epoch/held-1 'What is the ISO date of the Unix epoch?' is trained on as "
        "\"what is the 'ISO date' of the Unix epoch\" of facts/epoch (overlap 1.00)"
    )


def test_a_leak_counts_whatever_its_answer_and_system_prompt() -> None:
    leaked = TrainingExample(Prompt("From what day do Unix clocks count?", "Be brief."), "another")

    assert [leak.case_id for leak in HeldOut(SETS).leaks([leaked])] == ["facts/epoch/held-2"]


@pytest.mark.parametrize(
    ("text", "overlaps"),
    [
        ("Answer briefly: what is the ISO date of the Unix epoch?", [1.0]),
        ("Tell me what the ISO date of the unix epoch is.", [1.0]),
        ("What is the date of the Unix epoch?", [0.875]),
        ("What is the ISO date of the Unix epoch?", []),
        ("When does Unix time start?", []),
    ],
    ids=["wrapped", "reordered", "seven-of-eight-words", "exact-is-a-leak", "unlike"],
)
def test_a_near_duplicate_has_most_of_the_words(text: str, overlaps: list[float]) -> None:
    assert [leak.overlap for leak in HeldOut(SETS, 0.8).near_duplicates([example(text)])] == overlaps


def test_the_threshold_is_a_share_of_the_wordings_words() -> None:
    examples = [example("What is the date of the Unix epoch?")]  # 7 of 8

    assert HeldOut(SETS, 0.9).near_duplicates(examples) == []
    assert len(HeldOut(SETS, 0.875).near_duplicates(examples)) == 1


def test_another_answer_is_no_near_duplicate() -> None:
    assert HeldOut(SETS).near_duplicates([example("Answer: What is the ISO date of the Unix epoch?", "no idea")]) == []


def test_the_nearest_example_is_named() -> None:
    far, near = example("What is the date of the Unix epoch?"), example("So what is the ISO date of the Unix epoch?")

    assert [leak.example for leak in HeldOut(SETS, 0.8).near_duplicates([far, near])] == [near]


@pytest.mark.parametrize("threshold", [0, 1.1])
def test_a_threshold_outside_its_range_is_an_error(threshold: float) -> None:
    with pytest.raises(ValueError, match=f"threshold: found {threshold}, expected above 0 and at most 1"):
        HeldOut(SETS, threshold).near_duplicates([])


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True)


@given(wording=WORDS, prompt=WORDS, others=st.lists(WORDS, max_size=4), threshold=st.floats(0.05, 1))
def test_the_index_finds_what_comparing_every_pair_finds(
    wording: list[str], prompt: list[str], others: list[list[str]], threshold: float
) -> None:
    held_out = tuple({f"w {' w'.join(words)}": None for words in [wording, *others]})
    pattern_set = PatternSet(
        "f", "f.yaml", patterns=(Pattern("p", "?", "x", "c", SourceLine("f.yaml", 1), held_out=held_out),)
    )
    text = f"w {' w'.join(prompt)}"

    found = HeldOut([pattern_set], threshold).near_duplicates([TrainingExample(Prompt(text), "x")])

    asked = set(text.split())
    shares = {text: len(asked & set(text.split())) / len(set(text.split())) for text in held_out}
    assert [leak.wording for leak in found] == [t for t in held_out if shares[t] >= threshold - 1e-9 and t != text]
