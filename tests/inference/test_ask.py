"""Questions → scored answers through the store, each prompt asked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engram_bench.backends.fake import FakeGenerator, FakeModel, fake_device
from engram_bench.errors import BackendError, PatternFileError
from engram_bench.inference.ask import Answerer, Question, fitted, limited
from engram_bench.inference.respondent import Respondent
from engram_bench.inference.store import CompletionStore
from engram_bench.records import Case, Completion, GenerationSettings, Prompt, SourceLine

CASE = Case(
    id="facts/ssh",
    pattern_id="ssh",
    set_name="facts",
    prompt=Prompt("Port of SSH?"),
    answers=("22",),
    match="exact",
    split="seen",
    category="ports",
    source=SourceLine("patterns/facts.yaml", 3),
)


class CountingGenerator(FakeGenerator):
    """Remembers what it was asked."""

    def __init__(self, answers: dict[str, str], crash: str | None = None) -> None:
        super().__init__(answers, crash)
        self.asked: list[str] = []

    def complete(
        self, prompts: Sequence[Prompt], settings: GenerationSettings, *, drafts: Sequence[str | None] | None = None
    ) -> list[Completion]:
        self.asked += [prompt.user for prompt in prompts]
        return super().complete(prompts, settings, drafts=drafts)


def answerer(generator: FakeGenerator, folder: Path) -> Answerer:
    respondent = Respondent(FakeModel(), fake_device(), lambda: generator, "a1")  # type: ignore[arg-type]
    return Answerer(respondent, CompletionStore(folder / "completions.sqlite"))


def test_same_prompt_is_asked_once_for_all_tests(tmp_path: Path) -> None:
    generator = CountingGenerator({"Port of SSH?": "22"})

    results = answerer(generator, tmp_path).answer([Question(CASE), Question(CASE, "consistency")], "candidate")

    assert [result.test for result in results] == ["accuracy", "consistency"]
    assert all(result.score.passed for result in results)
    assert generator.asked == ["Port of SSH?"]


def test_stored_answers_open_no_generator(tmp_path: Path) -> None:
    answerer(FakeGenerator({"Port of SSH?": "22"}, None), tmp_path).answer([Question(CASE)], "candidate")

    def refuse() -> FakeGenerator:
        raise AssertionError

    stored = answerer(FakeGenerator({}, None), tmp_path)
    again = replace(stored, respondent=replace(stored.respondent, open=refuse))

    assert again.answer([Question(CASE)], "candidate")[0].completion.text == "22"


def test_another_sample_is_never_served_from_the_store(tmp_path: Path) -> None:
    generator = CountingGenerator({"Port of SSH?": "22"})
    side = answerer(generator, tmp_path)
    drawn = [GenerationSettings(temperature=0.7, sample=sample) for sample in (1, 2)]

    side.answer([Question(CASE, settings=settings) for settings in drawn], "candidate")

    assert len(generator.asked) == 2


def test_answers_before_a_crash_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram_bench.inference.ask.CHUNK", 1)
    crashing = replace(CASE, id="facts/b", prompt=Prompt("crash"))

    with pytest.raises(BackendError, match="crash at prompt"):
        answerer(FakeGenerator({"Port of SSH?": "22"}, "crash"), tmp_path).answer(
            [Question(CASE), Question(crashing)], "candidate"
        )

    assert CompletionStore(tmp_path / "completions.sqlite").stats().completions == 1


def test_prompt_longer_than_the_context_names_file_and_line(tmp_path: Path) -> None:
    long = replace(CASE, prompt=Prompt("x" * 5000))

    with pytest.raises(
        PatternFileError, match=r"patterns/facts.yaml: line 3: pattern 'ssh': prompt of 5018 tokens \+ 32"
    ):
        answerer(FakeGenerator({}, None), tmp_path).answer([Question(long)], "candidate")


def test_control_without_an_answer_passes_with_any_completion(tmp_path: Path) -> None:
    (result,) = answerer(FakeGenerator({}, None), tmp_path).answer([Question(replace(CASE, answers=()))], "candidate")

    assert result.score.passed


THOUGHTFUL = "<think>21 or 22?</think>\n\n22"


def test_reasoning_is_kept_apart_and_its_tokens_are_counted_apart(tmp_path: Path) -> None:
    generator = CountingGenerator({"Port of SSH?": THOUGHTFUL})

    (result,) = answerer(generator, tmp_path).answer([Question(CASE)], "candidate")

    completion = result.completion
    assert (completion.text, completion.reasoning, result.score.outcome) == ("22", "21 or 22?", "passed")
    assert completion.reasoning_tokens == len("<think>21 or 22?</think>")
    assert completion.answer_tokens == completion.completion_tokens - completion.reasoning_tokens


def test_a_stored_answer_is_told_apart_again(tmp_path: Path) -> None:
    first = answerer(CountingGenerator({"Port of SSH?": THOUGHTFUL}), tmp_path).answer([Question(CASE)], "candidate")

    assert answerer(CountingGenerator({}), tmp_path).answer([Question(CASE)], "candidate") == first


def test_reasoning_without_an_end_is_no_answer(tmp_path: Path) -> None:
    generator = CountingGenerator({"Port of SSH?": "<think>It is 22, or is it?" + " hm" * 20})

    (result,) = answerer(generator, tmp_path).answer([Question(replace(CASE, match="contains"))], "candidate")

    assert (result.completion.text, result.completion.said[:8]) == ("", "It is 22")
    assert result.score.reason.startswith("found reasoning without an end, and no answer: ")
    assert result.score.reason.endswith("max-reasoning-tokens gives reasoning a limit of its own")


def test_reasoning_with_a_limit_of_its_own_leaves_room_for_the_answer(tmp_path: Path) -> None:
    generator = CountingGenerator({"Port of SSH?": f"<think>{'hm ' * 50}</think>22"})
    settings = GenerationSettings(4, max_reasoning_tokens=200)

    (result,) = answerer(generator, tmp_path).answer([Question(CASE, settings=settings)], "candidate")

    assert (result.completion.text, result.score.outcome) == ("22", "passed")


def test_an_accepted_answer_about_marks_is_judged_whole(tmp_path: Path) -> None:
    case = replace(CASE, answers=("<think>",))

    (result,) = answerer(CountingGenerator({"Port of SSH?": "<think>"}), tmp_path).answer([Question(case)], "candidate")

    assert (result.completion.text, result.completion.reasoning, result.score.outcome) == ("<think>", "", "passed")


@pytest.mark.parametrize(("length", "limit"), [(30, 32), (31, 32), (32, 64), (100, 128)])
def test_the_limit_grows_with_the_longest_accepted_answer(tmp_path: Path, length: int, limit: int) -> None:
    question = Question(replace(CASE, answers=("22", "x" * length)))

    assert fitted(question, FakeModel()).settings.max_tokens == limit  # type: ignore[arg-type]


def test_a_limit_of_the_pattern_file_stays(tmp_path: Path) -> None:
    case = replace(CASE, answers=("x" * 100,), max_tokens=8)

    assert limited(case, GenerationSettings(), FakeModel()).settings.max_tokens == 8  # type: ignore[arg-type]
