"""Answers that cannot be given are named before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from engram_bench.errors import PatternFileError
from engram_bench.models import ChatTokenizer
from engram_bench.patterns.limits import answer_limit, answer_mistakes, check_answers, tokens_needed
from engram_bench.records import Pattern, PatternSet, Prompt, SourceLine
from tests.tiny_models import make_tiny_llama


class Bytes:
    """A tokenizer with a token per byte, and one that ends answers."""

    stop_ids = frozenset({0})
    stop_texts = ("<end>",)

    def encode(self, text: str) -> list[int]:
        return list(text.replace("<end>", "\x00").encode())

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        return [1, *self.encode(answer), 0], 1


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer(make_tiny_llama(tmp_path_factory.mktemp("llama")))


def pattern_set(pattern: Pattern, kind: str = "memory") -> PatternSet:
    return PatternSet("facts", "facts.yaml", kind, patterns=(pattern,))  # type: ignore[arg-type]


def pattern(output: str, *accept: str, match: str = "exact", max_tokens: int | None = None) -> Pattern:
    return Pattern(
        "p", "Question?", output, "c", SourceLine("facts.yaml", 3), accept, match=match, max_tokens=max_tokens
    )


@pytest.mark.parametrize(
    ("longest", "limit"),
    [(0, 32), (31, 32), (32, 64), (63, 64), (64, 96), (1000, 1024)],
    ids=str,
)
def test_limit_grows_in_steps_until_the_longest_answer_and_its_end_fit(longest: int, limit: int) -> None:
    assert answer_limit(["x" * longest, "short"], 32, Bytes()) == limit


def test_no_answers_need_no_more_than_the_session_allows() -> None:
    assert answer_limit([], 32, Bytes()) == 32


def test_short_answers_are_never_encoded() -> None:
    assert answer_limit(["x" * 30], 32, None) == 32  # type: ignore[arg-type]


def test_needed_tokens_are_those_of_the_trained_answer(llama: ChatTokenizer) -> None:
    assert tokens_needed(" 404 ", llama) == len(llama.encode("404")) + 1


@pytest.mark.parametrize(
    ("made", "kind", "mistakes"),
    [
        (pattern("x" * 20, max_tokens=20), "memory", ["max_tokens is 20, expected at least 21, which the answer 'xxx"]),
        (pattern("x" * 20, max_tokens=21), "memory", []),
        (pattern("x" * 20), "memory", []),
        (pattern("22", "x" * 20, max_tokens=8), "memory", ["max_tokens is 8, expected at least 21"]),
        (pattern("22", "x" * 20, match="number", max_tokens=8), "memory", []),
        (pattern("x" * 20, match="regex", max_tokens=8), "memory", ["max_tokens is 8, expected at least 21"]),
        (pattern("x" * 20, match="regex", max_tokens=8), "retention", []),
        (pattern("x" * 20, match="contains", max_tokens=8), "retention", ["max_tokens is 8, expected at least 21"]),
        (pattern("say <end> now"), "memory", ["output holds '<end>', with which the model ends an answer"]),
        (pattern("22", "<end>"), "memory", ["accept holds '<end>'"]),
        (pattern("<ending>"), "memory", []),
    ],
    ids=lambda value: value.output[:12] if isinstance(value, Pattern) else None,
)
def test_answers_that_cannot_be_given_are_named(made: Pattern, kind: str, mistakes: list[str]) -> None:
    found = list(answer_mistakes(pattern_set(made, kind), Bytes()))

    assert len(found) == len(mistakes)
    for one, expected in zip(found, mistakes, strict=True):
        assert one.startswith(f"line 3: pattern 'p': {expected}")


def test_stop_tokens_of_a_real_tokenizer_are_found(llama: ChatTokenizer) -> None:
    bad, good = pattern("It is <|im_end|> in ChatML"), pattern("It is <|im_start|> in ChatML")

    assert llama.stop_texts == ("<|im_end|>",)
    assert list(answer_mistakes(pattern_set(good), llama)) == []
    with pytest.raises(PatternFileError, match=r"facts.yaml: line 3: pattern 'p': output holds '<\|im_end\|>'"):
        check_answers([pattern_set(good), pattern_set(bad)], llama)


def test_an_answer_about_a_stop_token_that_is_shorter_than_its_name_passes() -> None:
    assert list(answer_mistakes(pattern_set(pattern("<end")), Bytes())) == []


def test_a_folder_says_which_texts_end_answers(tmp_path: Path, llama: ChatTokenizer) -> None:
    assert {llama.encode(text)[0] for text in llama.stop_texts} == llama.stop_ids
