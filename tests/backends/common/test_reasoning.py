"""Reasoning has its own limit, and the answer's limit counts from its end, with any decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engram_bench.backends.common.generating import Decoder, TextGenerator
from engram_bench.backends.common.rows import PromptRow
from engram_bench.backends.fake.model import END, FakeTokenizer
from engram_bench.records import GenerationSettings, Prompt

ASKED = Prompt("Port of SSH?")
PLAIN = FakeTokenizer()


class Thinking(FakeTokenizer):
    """A template that opens reasoning in every prompt."""

    template_token_ids = (tuple(b"<|user|>"), tuple(b"<|answer|><think>"))


class Script:
    """Decodes one text, whatever part of it a row has already."""

    def __init__(self, text: str, settings: GenerationSettings, calls: list[int]) -> None:
        self.ids, self.settings, self.calls = [*text.encode(), END], settings, calls

    def run(self, rows: Sequence[PromptRow]) -> None:
        self.calls.append(len(rows))
        for row in rows:
            list(self.tokens(row))

    def tokens(self, row: PromptRow) -> Iterator[int]:
        start = len(row.prompt) - len(FakeTokenizer().encode_prompt(ASKED))
        for token in self.ids[start:][: self.settings.max_tokens]:
            row.new.append(token)
            row.stopped = token == END
            yield token


class Scripted(TextGenerator):
    def __init__(self, text: str, *, context: int = 4096, tokenizer: FakeTokenizer = PLAIN) -> None:
        made: Any = tokenizer
        super().__init__(made, context_length=context, max_batch_tokens=10_000)
        self.text = text
        self.calls: list[int] = []

    def _decoder(self, settings: GenerationSettings, max_batch_tokens: int) -> Decoder:
        return Script(self.text, settings, self.calls)

    def _sequence_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        return []

    def close(self) -> None:
        pass


def limits(answer: int, reasoning: int | None) -> GenerationSettings:
    return GenerationSettings(answer, max_reasoning_tokens=reasoning)


@pytest.mark.parametrize(
    ("said", "settings", "text", "reason"),
    [
        ("22", limits(4, 100), "22", "stop"),
        ("twenty-two", limits(4, 100), "twen", "length"),
        ("<think>" + "x" * 50 + "</think>22", limits(4, 100), "<think>" + "x" * 50 + "</think>22", "stop"),
        ("<think>" + "x" * 50 + "</think>twenty", limits(4, 100), "<think>" + "x" * 50 + "</think>twen", "length"),
        ("<think>x</think>twenty", limits(20, 100), "<think>x</think>twenty", "stop"),
        ("<think>x</think>" + "y" * 30, limits(20, 100), "<think>x</think>" + "y" * 20, "length"),
        ("<think>" + "x" * 200, limits(4, 100), "<think>" + "x" * 93, "length"),
        ("<th> is a tag", limits(4, 100), "<th>", "length"),
        ("<thi> is a tag", limits(4, 100), "<thi", "length"),
        ("<think>" + "x" * 50 + "</think>22", limits(4, None), "<thi", "length"),
        ("<think>" + "x" * 50, limits(4, 100), "<think>" + "x" * 50, "stop"),
    ],
    ids=[
        "no reasoning",
        "a long answer without reasoning",
        "an answer after reasoning",
        "a long answer after reasoning",
        "an end within the first tokens",
        "a long answer after an early end",
        "no end within the limit",
        "the start of no mark",
        "what may be the start of a mark",
        "no limit of its own",
        "stopped while reasoning",
    ],
)
def test_the_limits_bound_reasoning_and_answer_apart(
    said: str, settings: GenerationSettings, text: str, reason: str
) -> None:
    (found,) = Scripted(said).complete([ASKED], settings)

    assert (found.text, found.stop_reason) == (text, reason)


@given(st.integers(0, 90), st.integers(0, 12), st.integers(1, 30), st.integers(20, 120))
def test_any_limits_give_what_one_long_pass_would(thought: int, answer: int, max_tokens: int, reasoning: int) -> None:
    said = f"<think>{'x' * thought}</think>{'y' * answer}"
    end = len("<think></think>") + thought

    (found,) = Scripted(said).complete([ASKED], limits(max_tokens, reasoning))

    allowed = end + max_tokens if end <= reasoning or len(said) < max_tokens else reasoning
    assert found.text == said[:allowed]
    assert (found.stop_reason == "stop") == (len(said) < allowed)


def test_models_that_do_not_reason_are_asked_once() -> None:
    generator = Scripted("twenty-two")

    generator.complete([ASKED] * 3, limits(4, 100))

    assert generator.calls == [3]


def test_reasoning_ends_with_the_context() -> None:
    generator = Scripted("<think>" + "x" * 200, context=80)
    room = 80 - len(FakeTokenizer().encode_prompt(ASKED))

    (found,) = generator.complete([ASKED], limits(4, 1000))

    assert found.completion_tokens == room


def test_streamed_pieces_are_the_text() -> None:
    generator = Scripted("<think>" + "x" * 50 + "</think>twenty")

    assert "".join(generator.stream(ASKED, limits(4, 100))) == "<think>" + "x" * 50 + "</think>twen"


def test_reasoning_that_the_template_opens_begins_with_its_mark() -> None:
    generator = Scripted("hm</think>22", tokenizer=Thinking())

    (found,) = generator.complete([ASKED], limits(40, 100))

    assert found.text == "<think>hm</think>22"
    assert "".join(generator.stream(ASKED, limits(40, None))) == found.text


def test_an_answer_cut_inside_reasoning_that_the_template_opens_is_never_an_answer(tmp_path: Path) -> None:
    (found,) = Scripted("Rome or Milan?", tokenizer=Thinking()).complete([ASKED], limits(8, None))

    assert found.text == "<think>Rome or "[: len(found.text)]
