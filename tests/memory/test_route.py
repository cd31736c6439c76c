"""Which questions reach the adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engram_bench.backends.routed import RoutedGenerator
from engram_bench.memory.route import KeyRouter
from engram_bench.models import ChatTokenizer
from engram_bench.records import Completion, GenerationSettings, Prompt
from tests.tiny_models import TINY_MODELS

TRAINED = [Prompt("HTTP status code for 'Not Found'?"), Prompt("Default port of SSH?")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer(TINY_MODELS["llama"](tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def router(tokenizer: ChatTokenizer) -> KeyRouter:
    return KeyRouter(tokenizer, TRAINED)


@dataclass
class Echo:
    """Answers with its name."""

    name: str
    asked: list[Any] = field(default_factory=list)
    is_closed: bool = False

    def complete(
        self, prompts: Sequence[Prompt], settings: GenerationSettings, *, drafts: Sequence[str | None] | None = None
    ) -> list[Completion]:
        self.asked.append((list(prompts), drafts))
        return [Completion(f"{self.name}: {prompt.user}", 1, 1, "stop", 0.0) for prompt in prompts]

    def stream(self, prompt: Prompt, settings: GenerationSettings) -> Iterator[str]:
        yield self.name

    def log_probs(self, sequences: Sequence[Sequence[int]]) -> list[Any]:
        return [self.name for _ in sequences]

    def close(self) -> None:
        self.is_closed = True


def test_trained_questions_are_known(router: KeyRouter) -> None:
    assert all(router.decide(prompt).is_known for prompt in TRAINED)


def test_an_ordinary_question_is_not_known(router: KeyRouter) -> None:
    assert not router.decide(Prompt("What is the capital of Portugal?")).is_known


def test_an_empty_question_is_not_known(router: KeyRouter) -> None:
    assert router.decide(Prompt("")).share == 0.0


def test_more_false_positives_lower_the_threshold(tokenizer: ChatTokenizer) -> None:
    thresholds = [KeyRouter(tokenizer, TRAINED, false_positives=rate).threshold for rate in (0.01, 0.2)]

    assert thresholds[0] >= thresholds[1]


def test_ids_of_a_chat_are_judged_as_its_prompt(tokenizer: ChatTokenizer, router: KeyRouter) -> None:
    ids, _ = tokenizer.encode_example(TRAINED[0], "404")

    assert router.decide_ids(ids) == router.decide(TRAINED[0])
    assert not router.decide_ids(tokenizer.encode("Default port of SSH?")).is_known


def test_each_prompt_is_answered_by_its_side_in_order(router: KeyRouter) -> None:
    adapted, bare = Echo("adapted"), Echo("bare")
    prompts = [Prompt("Who wrote Hamlet?"), TRAINED[1], Prompt("")]
    generator = RoutedGenerator(adapted, bare, router)

    answers = generator.complete(prompts, GenerationSettings(), drafts=["a", "b", None])

    assert [answer.text.split(":")[0] for answer in answers] == ["bare", "adapted", "bare"]
    assert adapted.asked == [([TRAINED[1]], ["b"])]
    assert bare.asked == [([prompts[0], prompts[2]], ["a", None])]
    assert list(generator.stream(TRAINED[0], GenerationSettings())) == ["adapted"]


def test_closing_closes_both(router: KeyRouter, tmp_path: Path) -> None:
    sides = Echo("adapted"), Echo("bare")

    RoutedGenerator(*sides, router).close()

    assert all(side.is_closed for side in sides)
