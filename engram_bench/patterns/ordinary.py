"""Ordinary prompts: what people ask a model about anything but the patterns. Replayed in training, never asserted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from engram_bench.patterns.wordings import normalise_prompt, prompt_texts
from engram_bench.records import PatternSet, Prompt, TrainingExample

NEAR = 0.9
"""Share of a prompt's words that makes an ordinary prompt too near to it, as for held-out wordings."""


@cache
def ordinary_prompts() -> tuple[str, ...]:
    """The shipped ordinary prompts, written for this package."""
    return tuple(Path(__file__).with_name("ordinary_prompts.txt").read_text("utf-8").splitlines())


def replay_examples(sets: Iterable[PatternSet]) -> tuple[TrainingExample, ...]:
    """The ordinary prompts as examples without an answer; none that a pattern or control of *sets* asks, or nearly so.

    A control that were replayed would be held by rote, and retention would measure nothing.
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
