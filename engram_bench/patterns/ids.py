"""Readable ids for patterns without one."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache

MAX_SLUG = 60
"""Longest readable part of an id, in characters; a longer question is cut at a word and may then need the hash."""


def default_ids(questions: Sequence[tuple[str, str]], taken: Collection[str] = ()) -> list[str]:
    """An id per question, in order: ``ports-default-port-of-ssh``.

    The ids depend only on the set of questions and of *taken* ids, so another order changes none. A question whose
    readable part is shared, taken or lacks letters outside ASCII gets a short hash. Equal questions get equal ids.

    Args:
        questions: Category and input of each pattern.
        taken: Ids that patterns of the file name themselves.
    """
    slugs = {question: _slug(*question) for question in questions}
    shared = Counter(slug for slug, _ in slugs.values())
    ids = {
        question: slug if is_readable and shared[slug] == 1 and slug not in taken else f"{slug}-{_digest(question)}"
        for question, (slug, is_readable) in slugs.items()
    }
    return [ids[question] for question in questions]


def _slug(category: str, text: str) -> tuple[str, bool]:
    """Lower-case words joined by hyphens, and whether every letter and digit is kept."""
    words = f"{category} {text}".replace("'", "")
    plain = (words if words.isascii() else "".join(map(_decomposed, words))).casefold()
    ascii_text = plain if plain.isascii() else plain.encode("ascii", "ignore").decode()
    slug = "-".join(re.findall(r"[a-z0-9]+", ascii_text))
    if len(slug) > MAX_SLUG:
        slug = slug[:MAX_SLUG].rpartition("-")[0] or slug[:MAX_SLUG]
    return slug or "pattern", plain.isascii() or not any(map(str.isalnum, set(plain) - set(ascii_text)))


@cache
def _decomposed(character: str) -> str:
    """One character in its parts. Python orders the accents of a whole text in time that grows with their number squared."""
    return unicodedata.normalize("NFKD", character)


def _digest(question: tuple[str, str]) -> str:
    return hashlib.sha256("\0".join(question).encode()).hexdigest()[:6]
