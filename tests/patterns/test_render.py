import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.patterns.augment import Augmentation, prefixed
from engram_bench.patterns.leaks import HeldOut
from engram_bench.patterns.load import load_pattern_files
from engram_bench.patterns.render import as_written, training_examples, write_chat_jsonl
from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records import Pattern, PatternSet, Prompt, SourceLine, TrainingExample
from tests.patterns.strategies import pattern_sets

SHIPPED = Path(__file__).parents[2] / "patterns"
PLAIN = Augmentation(prefixes=0, rephrases=0)
SOURCE = SourceLine("facts.yaml", 1)
SSH = Pattern("ssh", "Default port of SSH?", "22", "ports", SOURCE, wordings=("Where does SSH listen?",))


def memory(*patterns: Pattern, path: str = "facts.yaml") -> PatternSet:
    return PatternSet("facts", path, patterns=patterns)


def prompts(examples: tuple[TrainingExample, ...]) -> list[str]:
    return [example.prompt.user for example in examples]


def test_a_pattern_is_trained_as_written_and_in_its_wordings() -> None:
    pattern = replace(SSH, system="Be brief.", accept=("22/tcp",))

    assert training_examples([memory(pattern)], augment=PLAIN) == (
        TrainingExample(Prompt("Default port of SSH?", "Be brief."), "22", "facts/ssh"),
        TrainingExample(Prompt("Where does SSH listen?", "Be brief."), "22", "facts/ssh"),
    )


def test_wordings_can_be_left_out() -> None:
    examples = training_examples([memory(SSH)], augment=Augmentation(0, 0, wordings=False))

    assert prompts(examples) == ["Default port of SSH?"]


def test_augmentation_adds_the_number_asked_for() -> None:
    examples = training_examples([memory(replace(SSH, wordings=()))], augment=Augmentation(prefixes=3, rephrases=2))

    assert len(set(prompts(examples))) == 1 + 5
    assert {example.answer for example in examples} == {"22"}


@pytest.mark.parametrize(("wordings", "made"), [(0, 4), (1, 3), (2, 2), (3, 1), (4, 0), (5, 0)])
def test_each_wording_takes_the_place_of_a_variant(wordings: int, made: int) -> None:
    pattern = replace(SSH, wordings=tuple(f"Port {number} of SSH, by default?" for number in range(wordings)))

    examples = training_examples([memory(pattern)], augment=Augmentation(prefixes=1, rephrases=3))

    assert len(examples) == 1 + wordings + made


def test_prefixes_stand_in_where_no_rephrase_fits() -> None:
    pattern = replace(SSH, input="I lost my keys", wordings=())

    _, *variants = prompts(training_examples([memory(pattern)], augment=Augmentation(prefixes=0, rephrases=2)))

    assert len(variants) == 2
    assert set(variants) <= set(prefixed("I lost my keys"))


def test_a_variant_steps_aside_for_a_held_out_wording_and_its_near_duplicates() -> None:
    held_out = ("Tell me the default port of SSH!", "What, then, is the default port of SSH?")
    pattern = replace(SSH, wordings=(), held_out=held_out)

    variants = prompts(training_examples([memory(pattern)], augment=Augmentation(prefixes=0, rephrases=5)))

    assert "Tell me the default port of SSH." not in variants
    assert "I need the default port of SSH." in variants


def test_a_variant_steps_aside_for_a_held_out_wording_of_another_file() -> None:
    other = Pattern("x", "x?", "22", "c", SourceLine("b.yaml", 1), held_out=("I need the default port of SSH",))

    examples = training_examples([memory(SSH), memory(other, path="b.yaml")], augment=Augmentation(0, 5))

    assert "I need the default port of SSH." not in prompts(examples)


def test_a_variant_steps_aside_for_a_prompt_with_another_answer() -> None:
    other = Pattern("x", "What is the default port of SSH?", "It is 22.", "c", SOURCE)

    examples = training_examples([memory(SSH, other)], augment=Augmentation(0, 5))

    assert [e.answer for e in examples if e.prompt.user == "What is the default port of SSH?"] == ["It is 22."]


def test_controls_are_never_trained_on() -> None:
    controls = PatternSet("c", "c.yaml", "retention", patterns=(replace(SSH, input="I need the default port of SSH."),))

    examples = training_examples([memory(SSH), controls], augment=Augmentation(0, 5))

    assert {example.pattern_id for example in examples} == {"facts/ssh"}
    assert "I need the default port of SSH." not in prompts(examples)


def test_examples_depend_on_the_seed_and_on_their_own_pattern_only() -> None:
    other = replace(SSH, id="dns", input="Default port of DNS?", output="53", wordings=())

    alone = training_examples([memory(SSH)], seed=1)
    beside = training_examples([memory(other, SSH)], seed=1)
    draws = {training_examples([memory(SSH)], seed=seed) for seed in range(5)}

    assert tuple(example for example in beside if example.pattern_id == "facts/ssh") == alone
    assert alone == training_examples([memory(SSH)], seed=1)
    assert len(draws) > 1


@given(
    pattern_set=pattern_sets(),
    other=pattern_sets("other.yaml"),
    numbers=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
@settings(max_examples=40, deadline=None)
def test_whatever_the_sets_nothing_held_out_is_trained_and_no_prompt_has_two_answers(
    pattern_set: PatternSet, other: PatternSet, numbers: tuple[int, int]
) -> None:
    sets = [pattern_set, other]

    examples = training_examples(sets, augment=Augmentation(*numbers))

    answers = defaultdict(set)
    for example in examples:
        answers[example.prompt.system, normalise_prompt(example.prompt.user)].add(example.answer)
    assert HeldOut(sets).leaks(examples) == []
    assert {len(found) for found in answers.values()} <= {1}
    assert len(set(examples)) == len(examples)


@given(pattern_set=pattern_sets())
@settings(max_examples=40, deadline=None)
def test_every_pattern_of_a_checked_set_is_trained_as_written(pattern_set: PatternSet) -> None:
    trained = {(example.prompt, example.answer) for example in training_examples([pattern_set])}

    assert {(Prompt(p.input, p.system), p.output) for p in pattern_set.patterns} <= trained


@pytest.fixture(scope="module")
def shipped() -> tuple[PatternSet, ...]:
    return load_pattern_files([SHIPPED])


def test_the_shipped_patterns_give_at_least_337_examples(shipped: tuple[PatternSet, ...]) -> None:
    assert sum(len(pattern_set.patterns) for pattern_set in shipped if pattern_set.kind == "memory") >= 131
    assert len(training_examples(shipped)) >= 337


def test_no_shipped_example_has_70_percent_of_the_words_of_a_held_out_wording(shipped: tuple[PatternSet, ...]) -> None:
    examples = training_examples(shipped)

    assert HeldOut(shipped).leaks(examples) == []
    assert HeldOut(shipped, 0.7).near_duplicates(examples) == []


def test_every_shipped_pattern_is_trained_in_other_words_too(shipped: tuple[PatternSet, ...]) -> None:
    few = [
        p.id
        for pattern_set in shipped
        if pattern_set.kind == "memory"
        for p in pattern_set.patterns
        if len(p.wordings) < 3
    ]

    assert few == []


def read_chat(path: Path) -> list[list[dict[str, str]]]:
    """The conversations of a file by the rules of mlx-lm's ChatDataset and TRL's conversational format."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for row in rows:
        assert list(row) == ["messages"]
        turns = [message["role"] for message in row["messages"]]
        assert turns[turns[0] == "system" :] == ["user", "assistant"]
        assert all(set(message) == {"role", "content"} and message["content"] for message in row["messages"])
    return [row["messages"] for row in rows]


def test_chat_files_read_back_by_the_rules_of_mlx_lm_and_trl(tmp_path: Path) -> None:
    pattern = replace(SSH, system="Be brief.", output="22\n“é”")
    examples = training_examples([memory(pattern, replace(SSH, id="b", input="Port of SSH?", wordings=()))])

    train, valid = write_chat_jsonl(examples, tmp_path / "data", valid_share=0.2)

    assert (train, valid) == (tmp_path / "data" / "train.jsonl", tmp_path / "data" / "valid.jsonl")
    rows = read_chat(train) + read_chat(valid)
    assert Counter(map(str, rows)) == Counter(
        str(
            [{"role": "system", "content": e.prompt.system}] * bool(e.prompt.system)
            + [{"role": "user", "content": e.prompt.user}, {"role": "assistant", "content": e.answer}]
        )
        for e in examples
    )


def test_validation_never_takes_the_prompt_as_written(tmp_path: Path) -> None:
    patterns = [replace(SSH, id=f"p{i}", input=f"Default port of service {i}?", wordings=()) for i in range(20)]
    examples = training_examples([memory(*patterns)])

    train, valid = write_chat_jsonl(examples, tmp_path, valid_share=0.25)

    assert len(read_chat(valid)) == 15
    assert {f"Default port of service {i}?" for i in range(20)} <= {row[0]["content"] for row in read_chat(train)}


def test_validation_repeats_examples_where_each_pattern_has_one(tmp_path: Path) -> None:
    examples = training_examples([memory(replace(SSH, wordings=()))], augment=PLAIN)

    train, valid = write_chat_jsonl(examples, tmp_path)

    assert read_chat(train) == read_chat(valid)


@pytest.mark.parametrize("share", [-0.1, 1.0], ids=["negative", "all"])
def test_a_validation_share_must_leave_something_to_train(share: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"valid_share is {share}, expected at least 0 and below 1"):
        write_chat_jsonl(training_examples([memory(SSH)]), tmp_path, valid_share=share)


def test_no_examples_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no examples, expected at least one"):
        write_chat_jsonl((), tmp_path)


def test_the_first_example_of_each_pattern_is_its_prompt_as_written() -> None:
    examples = [TrainingExample(Prompt(f"{place}?"), "x", name) for place, name in enumerate("aabbbc")]

    assert as_written(examples) == [0, 2, 5]
