"""Readable pattern ids for patterns that name none."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence

MAX_SLUG = 60
"""Characters; longer questions are cut at a word and may then need the hash."""


def default_ids(questions: Sequence[tuple[str, str]], taken: Collection[str] = ()) -> list[str]:
    """An id per (category, input), in order: ``ports-default-port-of-ssh``.

    Depends on nothing but the set of questions and of *taken* ids, so reordering changes none: every question whose slug
    is shared, taken or has lost letters outside ASCII gets a short hash appended. Equal questions get equal ids.
    """
    slugs = {question: _slug(*question) for question in questions}
    shared = Counter(slug for slug, _ in slugs.values())
    ids = {
        question: slug if is_readable and shared[slug] == 1 and slug not in taken else f"{slug}-{_digest(question)}"
        for question, (slug, is_readable) in slugs.items()
    }
    return [ids[question] for question in questions]


def _slug(category: str, text: str) -> tuple[str, bool]:
    """Lower-case words joined by hyphens, and whether no letter or digit was lost."""
    plain = unicodedata.normalize("NFKD", f"{category} {text}".replace("'", "")).casefold()
    ascii_text = plain if plain.isascii() else plain.encode("ascii", "ignore").decode()
    slug = "-".join(re.findall(r"[a-z0-9]+", ascii_text))
    if len(slug) > MAX_SLUG:
        slug = slug[:MAX_SLUG].rpartition("-")[0] or slug[:MAX_SLUG]
    return slug or "pattern", plain.isascii() or not any(map(str.isalnum, set(plain) - set(ascii_text)))


def _digest(question: tuple[str, str]) -> str:
    return hashlib.sha256("\0".join(question).encode()).hexdigest()[:6]
