"""Leaks: held-out wordings that a training example contains, word for word or nearly so."""

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
    """A held-out wording that a training example asks too, or nearly asks."""

    case_id: str
    """Id of the wording's case, ``<file stem>/<pattern id>/held-1``."""
    wording: str
    example: TrainingExample
    overlap: float
    """Share of the wording's words that the example's prompt contains, 0..1; 1.0 for the same prompt."""

    def __str__(self) -> str:
        return (
            f"{self.case_id} {self.wording!r} is trained on as {self.example.prompt.user!r} "
            f"of {self.example.pattern_id} (overlap {self.overlap:.2f})"
        )


class HeldOut:
    """An index of the held-out wordings of pattern sets, for look-ups by prompt.

    The index has each wording under its answer and its rarest words: just enough words that every prompt with *threshold*
    of the wording's words contains one of them. With 100,000 patterns a look-up takes a few comparisons.

    Args:
        sets: Pattern sets; sets of another kind than memory are left out.
        threshold: Share of a wording's words that a near-duplicate contains, above 0 and at most 1. Words are those of the
            normalised prompts, counted once and without order.

    Raises:
        ValueError: *threshold* is not above 0 and at most 1.
    """

    def __init__(self, sets: Iterable[PatternSet], threshold: float = 0.9) -> None:
        if not 0 < threshold <= 1:
            found = f"threshold: found {threshold}, expected above 0 and at most 1"
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
        """The wordings that an example asks word for word after normalisation, in order of the examples.

        A figure of generalization is valid only where this list is empty; ``render.training_examples`` makes no leak.
        """
        return [
            Leak(wording.case_id, wording.text, example, 1.0)
            for example in examples
            for wording in self._by_text.get(normalise_prompt(example.prompt.user), ())
        ]

    def near_duplicates(self, examples: Iterable[TrainingExample]) -> list[Leak]:
        """The wordings that an example with the same answer nearly asks, in order of the files.

        Each wording comes with its nearest example; a wording that an example asks word for word is left out.
        """
        nearest: dict[str, Leak] = {}
        for example in examples:
            for wording, overlap in self.near(example.prompt.user, example.answer):
                known = nearest.get(wording.case_id)
                if known is None or known.overlap < overlap:
                    nearest[wording.case_id] = Leak(wording.case_id, wording.text, example, overlap)
        return [nearest[wording.case_id] for wording in self._wordings if wording.case_id in nearest]

    def near(self, prompt: str, answer: str) -> Iterator[tuple[_Wording, float]]:
        """Wordings with this answer that *prompt* nearly repeats without being the same prompt, each with its overlap."""
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
    """Normalised text."""
    answer: str
    words: frozenset[str]
    needed: int
    """Number of words that a near-duplicate shares."""
