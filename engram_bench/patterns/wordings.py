"""When two prompts count as the same, and where a held-out wording is not held out.

Every check of the package that compares prompts goes through ``normalise_prompt``.
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
    """*text* without what a reader does not hear: case of words, quotes, sentence punctuation, spacing, Unicode forms.

    What tells two technical questions apart stays: ``-d`` and ``-D``, ``%y`` and ``%Y``, ``C`` and ``C++``,
    ``userName`` and ``UserName``. So words keep their case when it is mixed or when they are a single letter or contain
    anything but letters, and a sign that stands alone inside the text is kept. Idempotent; empty only for text without a word.
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


Place = tuple[str | int, ...]
"""Where a prompt stands in its pattern: ``("input",)`` or ``("held_out", 1)``, counted from 0."""


def prompt_texts(pattern: Pattern) -> Iterator[tuple[Place, str]]:
    """Every prompt of a pattern with its place: as written, then ``wordings``, then ``held_out``."""
    yield ("input",), pattern.input
    for index, text in enumerate(pattern.wordings):
        yield ("wordings", index), text
    for index, text in enumerate(pattern.held_out):
        yield ("held_out", index), text


@dataclass(frozen=True, slots=True)
class Clash:
    """Two patterns that must not hold the same prompt."""

    pattern: Pattern
    place: Place
    """Where the second use of the prompt stands in *pattern*."""
    other: Pattern
    """The pattern that has it too; it may be *pattern* itself."""
    message: str
    """What was found and expected, without the place of *pattern* in its file."""


def clashes(sets: Iterable[PatternSet]) -> Iterator[Clash]:
    """Prompts with two different answers, then held-out wordings and controls that are trained on.

    Two answers differ when their texts do, spacing aside; under different system prompts they may. A held-out wording
    counts as trained on whatever the system prompt is and whichever pattern of the sets trains it.
    """
    answered: dict[tuple[str | None, str], Pattern] = {}
    trained: dict[str, Pattern] = {}
    untrained: list[tuple[str, Pattern, Place, str]] = []
    for pattern_set in sets:
        for pattern in pattern_set.patterns:
            for place, text in prompt_texts(pattern):
                key = normalise_prompt(text)
                other = answered.setdefault((pattern.system, key), pattern)
                if other.output.split() != pattern.output.split():
                    found = f"{_named(place, text)} is answered {pattern.output!r} here and {other.output!r} by "
                    yield Clash(pattern, place, other, f"{found}{_cited(other)}, expected one answer")
                if pattern_set.kind == "memory" and place[0] != "held_out":
                    trained.setdefault(key, pattern)
                else:
                    untrained.append((key, pattern, place, text))
    for key, pattern, place, text in untrained:
        if (other_or_none := trained.get(key)) is not None:
            found = (
                f"{_named(place, text)} is trained on by {_cited(other_or_none)}, expected a prompt never trained on"
            )
            yield Clash(pattern, place, other_or_none, found)


def _named(place: Place, text: str) -> str:
    """A prompt as messages name it: ``held_out 2 'How …?'``."""
    return " ".join([str(place[0]), *(str(int(index) + 1) for index in place[1:]), repr(text)])


def _cited(pattern: Pattern) -> str:
    return f"pattern {pattern.id!r} ({pattern.source})"
