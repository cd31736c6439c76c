"""What a model thinks aloud before it answers, kept apart from the answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
)
"""Opening and closing marks of reasoning: DeepSeek-R1, Qwen3 and SmolLM3 (think), Seed-OSS, Cohere, Magistral, Kimi and
gpt-oss among them."""
NO_ANSWER = "found reasoning without an end, and no answer"
"""Start of the reason why a completion that never stops reasoning is a miss."""
_CLOSING_OF = {opening.lower(): closing.lower() for opening, closing in _TAGS}
_SHARED = {"<|end|>"}
"""Closing marks that other turns have as well: alone they say nothing."""
_MARK = re.compile("|".join(re.escape(mark) for pair in _TAGS for mark in pair), re.IGNORECASE)
_FINAL = re.compile(r"^(?:\s*<\|start\|>assistant)?\s*<\|channel\|>final<\|message\|>")
"""What announces gpt-oss's answer."""


class Spoken(NamedTuple):
    """A completion in two parts."""

    answer: str | None
    """What is said outside all reasoning; None where reasoning began and never ended."""
    reasoning: str
    """What stands inside, several parts joined by a blank line; empty where there is none."""


def split_reasoning(text: str) -> Spoken:
    """The answer of a completion and its reasoning.

    A closing mark without an opening one ends reasoning that the chat template began in the prompt. Marks nest as deep as
    they like. Without any mark the text is the answer, character by character.
    """
    outside: list[str] = []
    inside: list[str] = []
    awaited: list[str] = []
    at = 0
    for mark in _MARK.finditer(text):
        name = mark[0].lower()
        if awaited:
            if name in _CLOSING_OF:
                awaited.append(_CLOSING_OF[name])
            elif name == awaited[-1]:
                awaited.pop()
                if not awaited:
                    inside.append(text[at : mark.start()])
                    at = mark.end()
        elif name in _CLOSING_OF:
            outside.append(text[at : mark.start()])
            awaited.append(_CLOSING_OF[name])
            at = mark.end()
        elif name not in _SHARED:  # began in the prompt: all that was said so far is reasoning
            inside.append("".join(outside) + text[at : mark.start()])
            outside = []
            at = mark.end()
    if awaited:
        inside.append(text[at:])
        return Spoken(None, _joined(inside))
    if not inside:
        return Spoken(text, "")
    outside.append(text[at:])
    return Spoken(_FINAL.sub("", "".join(outside)).strip(), _joined(inside))


def reasoning_end(text: str) -> int | None:
    """Index after the mark that ends the first reasoning of a completion; None where none has ended."""
    awaited: list[str] = []
    for mark in _MARK.finditer(text):
        name = mark[0].lower()
        if name in _CLOSING_OF:
            awaited.append(_CLOSING_OF[name])
        elif awaited and name == awaited[-1]:
            awaited.pop()
            if not awaited:
                return mark.end()
        elif not awaited and name not in _SHARED:
            return mark.end()
    return None


def open_marks(text: str) -> tuple[str, str]:
    """The opening mark that nothing in the text closes, and its closing mark; two empty texts where there is none."""
    if split_reasoning(text).answer is not None:
        return "", ""
    opening = [mark[0] for mark in _MARK.finditer(text) if mark[0].lower() in _CLOSING_OF][-1]
    return opening, next(closing for known, closing in _TAGS if known.lower() == opening.lower())


def begins_mark(text: str) -> bool:
    """Whether a text, space aside, is empty or the first part of an opening mark."""
    begun = text.strip().lower()
    return any(opening.startswith(begun) for opening in _CLOSING_OF)


def has_marks(text: str) -> bool:
    """Whether a text holds a mark of reasoning, as an accepted answer about such marks does."""
    return _MARK.search(text) is not None


def _joined(parts: list[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())
