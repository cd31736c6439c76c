"""Whether training has seen a held-out wording: word for word, or nearly so."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engram_bench.patterns.expand import case_id
from engram_bench.patterns.wordings import normalise_prompt
from engram_bench.records import PatternSet, TrainingExample


@dataclass(frozen=True, slots=True)
class Leak:
    """A held-out wording that a training example gives away."""

    case_id: str
    """``<file stem>/<pattern id>/held-1``."""
    wording: str
    example: TrainingExample
    overlap: float
    """Share of the wording's words that the example's prompt has, 0..1; 1.0 for the same prompt."""

    def __str__(self) -> str:
        return (
            f"{self.case_id} {self.wording!r} is trained on as {self.example.prompt.user!r} "
            f"of {self.example.pattern_id} (overlap {self.overlap:.2f})"
        )


class HeldOut:
    """The held-out wordings of some sets, ready to be looked up by prompts.

    Each wording is indexed under its answer and so few of its rarest words that a prompt with *threshold* of them must
    have one: with 100,000 patterns a look-up stays a handful of comparisons.

    Args:
        sets: Of kind memory; others are left out.
        threshold: Share of a wording's words, 0..1, that a near-duplicate has. Words are those of the normalised prompts,
            counted once and without order.

    Raises:
        ValueError: *threshold* is not in 0..1.
    """

    def __init__(self, sets: Iterable[PatternSet], threshold: float = 0.9) -> None:
        if not 0 < threshold <= 1:
            found = f"threshold is {threshold}, expected above 0 and at most 1"
            raise ValueError(found)
        self._wordings: list[_Wording] = []
        self._by_text: dict[str, list[_Wording]] = defaultdict(list)
        self._by_word: dict[tuple[str, str], list[_Wording]] = defaultdict(list)
        for pattern_set in sets:
            for pattern in pattern_set.patterns if pattern_set.kind == "memory" else ():
                for number, text in enumerate(pattern.held_out, 1):
                    key = normalise_prompt(text)
                    words = frozenset(key.casefold().split())
                    needed = math.ceil(threshold * len(words) - 1e-9)
                    wording = _Wording(f"{case_id(pattern)}/held-{number}", text, key, pattern.output, words, needed)
                    self._wordings.append(wording)
                    self._by_text[key].append(wording)
        counts = Counter(word for wording in self._wordings for word in wording.words)
        for wording in self._wordings:
            rarest = sorted(wording.words, key=lambda word: (counts[word], word))
            for word in rarest[: len(rarest) - wording.needed + 1]:
                self._by_word[wording.answer, word].append(wording)

    def leaks(self, examples: Iterable[TrainingExample]) -> list[Leak]:
        """The wordings that an example asks word for word, in order of the examples; exactly, once both are normalised.

        Empty is what a report on generalization needs; ``render.training_examples`` never makes one.
        """
        return [
            Leak(wording.case_id, wording.text, example, 1.0)
            for example in examples
            for wording in self._by_text.get(normalise_prompt(example.prompt.user), ())
        ]

    def near_duplicates(self, examples: Iterable[TrainingExample]) -> list[Leak]:
        """The wordings that an example with the same answer nearly asks, each with its nearest example, in order of the files.

        What an example asks word for word is left out.
        """
        nearest: dict[str, Leak] = {}
        for example in examples:
            for wording, overlap in self.near(example.prompt.user, example.answer):
                known = nearest.get(wording.case_id)
                if known is None or known.overlap < overlap:
                    nearest[wording.case_id] = Leak(wording.case_id, wording.text, example, overlap)
        return [nearest[wording.case_id] for wording in self._wordings if wording.case_id in nearest]

    def near(self, prompt: str, answer: str) -> Iterator[tuple[_Wording, float]]:
        """Wordings with this answer that *prompt* has enough words of without being one, each with its overlap."""
        key = normalise_prompt(prompt)
        words = frozenset(key.casefold().split())
        candidates = {wording.case_id: wording for word in words for wording in self._by_word.get((answer, word), ())}
        for wording in candidates.values():
            shared = len(words & wording.words)
            if shared >= wording.needed and wording.key != key:
                yield wording, shared / len(wording.words)


@dataclass(frozen=True, slots=True)
class _Wording:
    case_id: str
    text: str
    key: str
    """Normalised."""
    answer: str
    words: frozenset[str]
    needed: int
    """Words a prompt must share to be near."""
