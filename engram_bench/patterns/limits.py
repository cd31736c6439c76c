"""Whether the accepted answers of a pattern can be given at all: within their limit of tokens, and up to their end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from engram_bench.errors import PatternFileError
from engram_bench.records import Pattern, PatternSet, Prompt

WHOLE_TEXT = ("exact", "strict", "prefix", "contains")
"""Matchers that find an accepted answer only where a completion holds all of its text."""
MARGIN = 2
"""Tokens that an answer may have beyond its UTF-8 bytes: the end of the turn, and a mark of some tokenizers before the text."""


class AnswerTokenizer(Protocol):
    """What is asked of a model's tokenizer."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end an answer."""

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts of the tokens that end an answer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text."""

    def encode_example(self, prompt: Prompt, answer: str) -> tuple[list[int], int]:
        """Token ids of prompt, answer and end of turn, and the index of the first answer token."""


def tokens_needed(answer: str, tokenizer: AnswerTokenizer) -> int:
    """Number of new tokens of an answer as it is trained, the end of the turn included."""
    ids, start = tokenizer.encode_example(Prompt("?"), answer)
    return len(ids) - start


def answer_limit(answers: Iterable[str], limit: int, tokenizer: AnswerTokenizer) -> int:
    """The limit of new tokens for a question with these accepted answers and none of its own.

    The limit is *limit*, or the smallest multiple of it that holds the longest answer. Multiples keep the number of different
    limits small, and questions of one limit are asked together.
    """
    long = [answer for answer in answers if _size(answer) + MARGIN > limit]
    needed = max((tokens_needed(answer, tokenizer) for answer in long), default=0)
    return limit * max(1, -(-needed // limit))


def check_answers(sets: Iterable[PatternSet], tokenizer: AnswerTokenizer) -> None:
    """Check that each accepted answer can be given.

    Raises:
        PatternFileError: An answer holds a token that ends answers, or has more tokens than the ``max_tokens`` of its
            pattern; lists all such answers of the first file with one.
    """
    for pattern_set in sets:
        if mistakes := list(answer_mistakes(pattern_set, tokenizer)):
            raise PatternFileError(pattern_set.path, mistakes)


def answer_mistakes(pattern_set: PatternSet, tokenizer: AnswerTokenizer) -> Iterator[str]:
    """Sentences on the answers of a file that cannot be given, each with its line and pattern."""
    around = tokens_needed("", tokenizer) + 1  # tokens beside the answer's own, at most
    for pattern in pattern_set.patterns:
        where = f"line {pattern.source.line}: pattern {pattern.id!r}"
        yield from (f"{where}: {found}" for found in _cut(pattern, tokenizer))
        long = [
            answer for answer in _that_must_fit(pattern, pattern_set) if _may_exceed(pattern, _size(answer) + around)
        ]
        yield from (f"{where}: {found}" for found in _too_long(pattern, long, tokenizer))


def _cut(pattern: Pattern, tokenizer: AnswerTokenizer) -> Iterator[str]:
    for index, answer in enumerate(pattern.answers):
        ends = [text for text in tokenizer.stop_texts if text in answer]
        if ends and not tokenizer.stop_ids.isdisjoint(tokenizer.encode(answer)):
            key = "accept" if index else "output"
            yield f"{key} holds {ends[0]!r}, with which the model ends an answer, expected a text without it"


def _that_must_fit(pattern: Pattern, pattern_set: PatternSet) -> Sequence[str]:
    """The answers that the pattern's own limit must hold: the one that is trained, and all whose text is looked for."""
    if pattern.match in WHOLE_TEXT:
        return pattern.answers
    return pattern.answers[:1] if pattern_set.kind == "memory" else ()


def _too_long(pattern: Pattern, answers: Sequence[str], tokenizer: AnswerTokenizer) -> Iterator[str]:
    for answer in answers:
        if _may_exceed(pattern, needed := tokens_needed(answer, tokenizer)):
            shown = answer if len(answer) <= 40 else f"{answer[:40]}…"
            yield f"max_tokens is {pattern.max_tokens}, expected at least {needed}, which the answer {shown!r} takes with its end"


def _may_exceed(pattern: Pattern, tokens: int) -> bool:
    return pattern.max_tokens is not None and tokens > pattern.max_tokens


def _size(text: str) -> int:
    """Number of UTF-8 bytes: no text has more tokens, whatever the tokenizer."""
    return len(text.encode("utf-8", "replace"))
