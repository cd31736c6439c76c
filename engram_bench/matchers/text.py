"""Matchers that compare wording: ``exact``, ``strict``, ``prefix``, ``contains`` and ``regex``."""

from __future__ import annotations

import re
import unicodedata

from engram_bench.matchers.blocks import unwrapped
from engram_bench.matchers.forms import fold_forms
from engram_bench.matchers.protocol import UnusableAnswer, miss, shown

REGEX_TIMEOUT_S = 1.0
"""Longest that one pattern may search one completion."""

_QUOTES = ('""', "''", "“”", "‘’", "«»")
_END_MARKS = " .!。"
_JOINTS = "/:^'’_"
"""What may join digits to one quantity: ``3/4``, ``12:30``, ``10^6``, ``1'024``."""
_SIGNED = r"[\s(=\[]"
"""What stands before a sign that belongs to its number."""
_GROUPED_BEFORE = r"(?<!\d )"


def normalise(text: str) -> str:
    """The text without what does not make an answer another answer: the one normalisation of all comparisons.

    Forms are folded as :func:`~engram_bench.matchers.forms.fold_forms` does, letters become lower case (``ß`` stays:
    *in Maßen* is not *in Massen*), and runs of whitespace become one space. What wraps the whole text goes: a code fence,
    backticks, a pair of quotes with no quote of its kind inside, and the periods and exclamation marks at the end. What
    would leave nothing stays: ``...`` and ``""`` are answers.

    Idempotent: a normalised text comes back unchanged.
    """
    while (simpler := _simplified(text)) != text:
        text = simpler
    return text


def exact(text: str, answer: str) -> bool | str:
    """Both are the same once normalised, see :func:`normalise`. Case does not count; ``strict`` is there for names."""
    return normalise(text) == normalise(answer) or miss(text, shown(answer))


def strict(text: str, answer: str) -> bool | str:
    """Both are the same character by character; only whitespace around them does not count."""
    return text.strip() == answer.strip() or miss(text, f"exactly {shown(answer)}")


def prefix(text: str, answer: str) -> bool | str:
    """The normalised text starts with the normalised answer, which must end where a word or number ends."""
    return bool(_as_words(answer).match(normalise(text))) or miss(text, f"{shown(answer)} at the start")


def contains(text: str, answer: str) -> bool | str:
    """The normalised answer occurs in the normalised text and is not part of a longer word or number.

    ``4`` is not in ``14``, ``4.5`` or ``x4``. Words of Chinese, Japanese and Korean have no such ends; there the answer
    may occur anywhere. A text that denies the answer contains it too: choose answers that no text would deny.
    """
    return bool(_as_words(answer).search(normalise(text))) or miss(text, f"{shown(answer)} in it")


def regex(text: str, answer: str) -> bool | str:
    """The pattern matches the whole text, whitespace around it aside; or the text is the pattern, letter for letter.

    Syntax and flags (``(?i)``, ``(?s)``) are those of the ``regex`` package, a superset of ``re``; ``(?s).*404.*``
    finds something inside. A model is trained to say ``output`` as it stands, so that takes the plain answer, and
    ``accept`` the patterns.

    Raises:
        UnusableAnswer: The pattern does not compile, or searched longer than :data:`REGEX_TIMEOUT_S`.
    """
    import regex as engine

    try:
        found = engine.fullmatch(answer, text.strip(), timeout=REGEX_TIMEOUT_S)
    except engine.error as error:
        message = f"pattern {shown(answer)} does not compile: {error}"
        raise UnusableAnswer(message) from error
    except TimeoutError as error:
        message = f"pattern {shown(answer)} searched {shown(text)} for more than {REGEX_TIMEOUT_S:g} s"
        raise UnusableAnswer(message) from error
    return bool(found) or text.strip() == answer.strip() or miss(text, f"a match of {shown(answer)}")


def _simplified(text: str) -> str:
    """One round of :func:`normalise`."""
    text = fold_forms(fold_forms(text).lower()).strip()
    body = unwrapped(text).strip()
    text = body or text
    inner = text[1:-1].strip()
    if inner and text[0] + text[-1] in _QUOTES and text[0] not in inner and text[-1] not in inner:
        text = inner
    text = " ".join(text.split())
    return text.rstrip(_END_MARKS) or text


def _as_words(answer: str) -> re.Pattern[str]:
    """A pattern that finds the normalised answer where it is not part of a longer word or number."""
    words = normalise(answer)
    before = r"(?<!\w)" if _is_set_apart(words[:1]) else ""
    after = r"(?!\w)" if _is_set_apart(words[-1:]) else ""
    if words[:1].isdigit():
        before += rf"(?<!\d[.,{_JOINTS}])(?<!{_SIGNED}[-−])(?<!^[-−])" + (
            _GROUPED_BEFORE if re.match(r"\d{3}(?!\d)", words) else ""
        )
    if words[-1:].isdigit():
        after += rf"(?![.,{_JOINTS}]\d)(?! \d{{3}}(?!\d)|\{{,\}}\d|\^|\*\*)"
    return re.compile(before + re.escape(words) + after)


def _is_set_apart(character: str) -> bool:
    """Whether a word that ends in this character has something else than a letter beside it."""
    return bool(re.match(r"\w", character)) and unicodedata.east_asian_width(character) not in "WF"
