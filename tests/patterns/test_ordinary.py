from pathlib import Path

import pytest

from engram_bench.patterns.load import load_pattern_files
from engram_bench.patterns.ordinary import ordinary_prompts, replay_examples
from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records import Pattern, PatternSet, SourceLine

SHIPPED = Path(__file__).parents[2] / "patterns"
SAYS_NOTHING = (
    "a an and are as at be by can could did do does for from had has have how i in is it me my of on or that the their "
    "there this to was were what when where which who why will with would you your people name tell give many much"
)


def test_ordinary_prompts_are_many_and_different() -> None:
    prompts = ordinary_prompts()

    assert len(prompts) >= 150
    assert len({normalise_prompt(text) for text in prompts}) == len(prompts)


def test_they_are_replayed_without_an_answer_or_a_pattern() -> None:
    examples = replay_examples(())

    assert len(examples) == len(ordinary_prompts())
    assert {(example.answer, example.pattern_id) for example in examples} == {("", "")}


@pytest.mark.parametrize("place", ["control", "seen", "held_out"])
def test_what_a_project_asks_is_not_replayed(place: str) -> None:
    text, source = "what is jazz", SourceLine("p.yaml", 1)
    pattern = {
        "control": Pattern("p", text, "music", "c", source),
        "seen": Pattern("p", text, "music", "c", source),
        "held_out": Pattern("p", "Jazz?", "music", "c", source, held_out=(text,)),
    }[place]

    kept = replay_examples(
        [PatternSet("p", "p.yaml", "retention" if place == "control" else "memory", patterns=(pattern,))]
    )

    assert set(ordinary_prompts()) - {example.prompt.user for example in kept} == {"What is jazz?"}


def test_nor_is_what_has_nearly_all_of_its_words() -> None:
    text = "And what do I need to pack for a week in the mountains, then?"  # 12 of 14 words are too few, 11 of 12 not
    controls = [Pattern("p", part, "", "c", SourceLine("p.yaml", 1)) for part in (text, text.removesuffix(", then?"))]

    kept = [
        {e.prompt.user for e in replay_examples([PatternSet("p", "p.yaml", "retention", patterns=(control,))])}
        for control in controls
    ]

    assert [set(ordinary_prompts()) - some for some in kept] == [
        set(),
        {"What do I need to pack for a week in the mountains?"},
    ]


def words(text: str) -> frozenset[str]:
    """What a prompt is about."""
    return frozenset(normalise_prompt(text).casefold().replace("'", " ").split()) - set(SAYS_NOTHING.split())


def test_no_replayed_prompt_has_more_than_half_of_what_a_shipped_control_is_about() -> None:
    controls = [
        pattern.input
        for pattern_set in load_pattern_files([SHIPPED])
        if pattern_set.kind == "retention"
        for pattern in pattern_set.patterns
    ]

    shared = [
        (prompt, control)
        for prompt in ordinary_prompts()
        for control in controls
        if len(words(prompt) & words(control)) > 0.5 * len(words(control))
    ]

    assert len(controls) >= 70
    assert shared == []


def test_no_shipped_pattern_is_replayed() -> None:
    assert len(replay_examples(load_pattern_files([SHIPPED]))) == len(ordinary_prompts())
