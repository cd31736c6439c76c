"""Which questions reach the adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_bench.memory.query import Query
from engram_bench.models import ChatTokenizer
from engram_bench.records import Completion, GenerationSettings, Prompt
from engram_bench.routing.discriminant import Discriminant, Vectors
from engram_bench.routing.generator import RoutedGenerator
from engram_bench.routing.router import KeyScorer, Router, StateScorer, fit_states
from tests.tiny_models import TINY_MODELS

TRAINED = [Prompt("HTTP status code for 'Not Found'?"), Prompt("Default port of SSH?")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer(TINY_MODELS["llama"](tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def router(tokenizer: ChatTokenizer) -> Router:
    return Router(tokenizer, KeyScorer(tokenizer, TRAINED))


@dataclass
class Given:
    """A scorer of ordinary questions alone."""

    ordinary: list[float]
    fingerprint: str = "given"

    def scores(self, queries: Sequence[Query]) -> list[float]:
        return [0.0 for _ in queries]


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


def test_trained_questions_are_known(router: Router) -> None:
    assert all(decision.is_known for decision in router.decide(TRAINED))


def test_an_ordinary_question_is_not_known(router: Router) -> None:
    (decision,) = router.decide([Prompt("What is the capital of Portugal?")])

    assert not decision.is_known


def test_an_empty_question_is_not_known(router: Router) -> None:
    (decision,) = router.decide([Prompt("")])

    assert not decision.is_known


@pytest.mark.parametrize(("share", "let_through"), [(0.02, 2), (0.1, 12), (0.5, 60)])
def test_the_threshold_lets_the_stated_share_of_ordinary_questions_through(
    share: float, let_through: int, tokenizer: ChatTokenizer
) -> None:
    scorer = Given([float(score) for score in range(120)])

    threshold = Router(tokenizer, scorer, false_positives=share).threshold

    assert sum(score > threshold for score in scorer.ordinary) <= let_through
    assert sum(score >= threshold for score in scorer.ordinary) >= let_through


def test_ids_of_a_chat_are_judged_as_its_prompt(tokenizer: ChatTokenizer, router: Router) -> None:
    ids, _ = tokenizer.encode_example(TRAINED[0], "404")
    text = tokenizer.encode("Default port of SSH?")

    decisions = router.decide_ids([text, ids])

    assert decisions[1:] == router.decide(TRAINED[:1])
    assert not decisions[0].is_known


def test_states_of_the_question_alone_are_asked_for(tokenizer: ChatTokenizer) -> None:
    """What has been answered so far says nothing about the question."""
    seen: list[list[int]] = []

    def states(sequences: Sequence[Sequence[int]]) -> Vectors:
        seen.extend(map(list, sequences))
        return np.ones((len(sequences), 2), np.float32)

    scorer = StateScorer(Discriminant(np.ones(2, np.float32), 0.0, np.zeros(3, np.float32)), states)
    ids, start = tokenizer.encode_example(TRAINED[0], "404")

    Router(tokenizer, scorer).decide_ids([ids])

    assert seen == [ids[:start]]


def test_states_of_trained_questions_are_told_from_ordinary_ones(tokenizer: ChatTokenizer) -> None:
    def states(sequences: Sequence[Sequence[int]]) -> Vectors:
        return np.array([[len(ids) % 7, tokenizer.decode(ids).count("port"), 1] for ids in sequences], np.float32)

    ports = [Prompt(f"Default port of {name}?") for name in ("SSH", "HTTP", "FTP", "SMTP")]
    router = Router(tokenizer, StateScorer(fit_states(tokenizer, ports, states), states))

    decisions = router.decide([Prompt("Tell me the port of Redis"), Prompt("Who wrote Hamlet?")])

    assert [decision.is_known for decision in decisions] == [True, False]


def test_each_prompt_is_answered_by_its_side_in_order(router: Router) -> None:
    adapted, bare = Echo("adapted"), Echo("bare")
    prompts = [Prompt("Who wrote Hamlet?"), TRAINED[1], Prompt("")]
    generator = RoutedGenerator(adapted, bare, router)

    answers = generator.complete(prompts, GenerationSettings(), drafts=["a", "b", None])

    assert [answer.text.split(":")[0] for answer in answers] == ["bare", "adapted", "bare"]
    assert adapted.asked == [([TRAINED[1]], ["b"])]
    assert bare.asked == [([prompts[0], prompts[2]], ["a", None])]
    assert list(generator.stream(TRAINED[0], GenerationSettings())) == ["adapted"]


def test_closing_closes_both(router: Router, tmp_path: Path) -> None:
    sides = Echo("adapted"), Echo("bare")

    RoutedGenerator(*sides, router).close()

    assert all(side.is_closed for side in sides)
