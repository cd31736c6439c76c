"""Questions → scored answers through the store, each prompt asked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from engram_bench.backends.fake import FakeGenerator, FakeModel, fake_device
from engram_bench.errors import BackendError, PatternFileError
from engram_bench.inference.ask import Answerer, Question
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
