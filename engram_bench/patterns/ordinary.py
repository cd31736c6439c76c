"""Ordinary prompts: questions to a model that no pattern asks. Training replays them; no test asserts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from engram_bench.patterns.wordings import normalise_prompt, prompt_texts
from engram_bench.records import PatternSet, Prompt, TrainingExample

NEAR = 0.9
"""Share of a prompt's words from which an ordinary prompt is too similar to be replayed."""


@cache
def ordinary_prompts() -> tuple[str, ...]:
    """The shipped ordinary prompts, written for this package."""
    return tuple(Path(__file__).with_name("ordinary_prompts.txt").read_text("utf-8").splitlines())


def replay_examples(sets: Iterable[PatternSet]) -> tuple[TrainingExample, ...]:
    """The ordinary prompts as examples without an answer, except those that a pattern or control of *sets* nearly asks.

    A replayed control would be trained on, and retention would measure nothing.
    """
    prompts = ordinary_prompts()
    holders: dict[str, list[int]] = {}
    for number, text in enumerate(prompts):
        for word in _words(text):
            holders.setdefault(word, []).append(number)
    near: set[int] = set()
    for pattern_set in sets:
        for pattern in pattern_set.patterns:
            for _, text in prompt_texts(pattern):
                words = _words(text)
                shared = [word for word in words if word in holders]
                if len(shared) >= NEAR * len(words):
                    counts = Counter(number for word in shared for number in holders[word])
                    near |= {number for number, count in counts.items() if count >= NEAR * len(words)}
    return tuple(TrainingExample(Prompt(text), "") for number, text in enumerate(prompts) if number not in near)


def _words(text: str) -> frozenset[str]:
    return frozenset(normalise_prompt(text).casefold().split())
