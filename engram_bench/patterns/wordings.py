"""The rule by which two prompts count as the same, and the clashes between prompts of patterns.

Every comparison of prompts in the package uses ``normalise_prompt``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from engram_bench.matchers.forms import fold_forms
from engram_bench.records import Pattern, PatternSet

_STRAIGHT = str.maketrans("‘’‚‛“”„‟«»", '\'\'\'\'""""""')
_QUOTES = "\"'`"
_SENTENCE_ENDS = ".,;:!?…"


def normalise_prompt(text: str) -> str:
    """*text* without differences that have no meaning: case of words, quotes, punctuation, spacing, Unicode forms.

    Differences between two technical questions stay: ``-d`` and ``-D``, ``%y`` and ``%Y``, ``C`` and ``C++``, ``userName``
    and ``UserName``. A word therefore keeps its case where the case is mixed, where the word is a single letter, and where
    it contains anything but letters; a sign that stands alone inside the text is kept. A normalised text comes back as it
    is; only a text without a word becomes empty.
    """
    plain = text if text.isascii() else fold_forms(text).translate(_STRAIGHT)
    words = [_fold(word) for word in plain.split()]
    while words and not words[-1].strip(_SENTENCE_ENDS):
        words.pop()
    if words and len(words[0]) == 1:
        words[0] = words[0].lower()
    return " ".join(words)


@lru_cache(maxsize=65_536)
def _fold(word: str) -> str:
    """One word of a normalised prompt."""
    bare = word.lstrip(_QUOTES).rstrip(_QUOTES + _SENTENCE_ENDS) or word
    letters = bare.replace("'", "")
    is_word = len(letters) > 1 and letters.isalpha() and (letters[1:].islower() or letters.isupper())
    return bare.lower() if is_word else bare


Position = tuple[str | int, ...]
"""Position of a prompt in its pattern: ``("input",)`` or ``("held_out", 1)``, counted from 0."""


def prompt_texts(pattern: Pattern) -> Iterator[tuple[Position, str]]:
    """Every prompt of a pattern with its position: as written, then ``wordings``, then ``held_out``."""
    yield ("input",), pattern.input
    for index, text in enumerate(pattern.wordings):
        yield ("wordings", index), text
    for index, text in enumerate(pattern.held_out):
        yield ("held_out", index), text


@dataclass(frozen=True, slots=True)
class Clash:
    """Two patterns with a prompt that they must not share."""

    pattern: Pattern
    position: Position
    """Position of the prompt's second use in *pattern*."""
    other: Pattern
    """Pattern with the first use of the prompt; it may be *pattern* itself."""
    message: str
    """Message: what was found and what was expected, without the line of *pattern*."""


def clashes(sets: Iterable[PatternSet]) -> Iterator[Clash]:
    """Prompts with two different answers, then held-out wordings and controls that are trained on.

    Two answers differ where their texts differ in more than spacing; under different system prompts they may differ. A
    held-out wording counts as trained on under any system prompt and by any pattern of the sets.
    """
    answered: dict[tuple[str | None, str], Pattern] = {}
    trained: dict[str, Pattern] = {}
    untrained: list[tuple[str, Pattern, Position, str]] = []
    for pattern_set in sets:
        for pattern in pattern_set.patterns:
            for position, text in prompt_texts(pattern):
                key = normalise_prompt(text)
                other = answered.setdefault((pattern.system, key), pattern)
                if other.output.split() != pattern.output.split():
                    found = f"{_named(position, text)} is answered {pattern.output!r} here and {other.output!r} by "
                    yield Clash(pattern, position, other, f"{found}{_cited(other)}, expected one answer")
                if pattern_set.kind == "memory" and position[0] != "held_out":
                    trained.setdefault(key, pattern)
                else:
                    untrained.append((key, pattern, position, text))
    for key, pattern, position, text in untrained:
        if (other_or_none := trained.get(key)) is not None:
            found = (
                f"{_named(position, text)} is trained on by {_cited(other_or_none)}, expected a prompt never trained on"
            )
            yield Clash(pattern, position, other_or_none, found)


def _named(position: Position, text: str) -> str:
    """Name of a prompt in messages: ``held_out 2 'How …?'``."""
    return " ".join([str(position[0]), *(str(int(index) + 1) for index in position[1:]), repr(text)])


def _cited(pattern: Pattern) -> str:
    return f"pattern {pattern.id!r} ({pattern.source})"
