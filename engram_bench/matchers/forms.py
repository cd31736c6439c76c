"""Ways of writing that never change what a text says: width, spacing, ligatures."""

from __future__ import annotations

import unicodedata
from functools import cache
from itertools import groupby

_LIGATURES = range(0xFB00, 0xFB07)
"""ﬀ to ﬆ."""
_ALIKE = {"…": "...", "µ": "μ", "ς": "σ"}
"""Further characters that are only another form: the ellipsis, the micro sign, the sigma at the end of a word."""


def fold_forms(text: str) -> str:
    """The text in one form: canonical (Unicode NFC), of ordinary width, with ordinary spaces, without Latin ligatures.

    Compatibility normalisation (NFKC) would go too far: it makes ``10⁶`` the number 106, ``½`` the text 1⁄2 and ``ℝ`` a
    plain R. Such characters stay. Idempotent.

    Source: Unicode Standard Annex 15 and the decomposition tags of the Unicode Character Database.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _in_order("".join(map(_folded, text))))


def _in_order(text: str) -> str:
    """The text with long rows of accents in canonical order, as NFC puts them; Python's own sort costs a row's length squared."""
    if len(text) < 1000:
        return text
    rows = groupby(text, key=lambda character: unicodedata.combining(character) != 0)
    return "".join("".join(sorted(row, key=unicodedata.combining) if is_accent else row) for is_accent, row in rows)


@cache
def _folded(character: str) -> str:
    """One character in its ordinary form."""
    tag, _, mapped = unicodedata.decomposition(character).partition(" ")
    is_form = tag in ("<wide>", "<narrow>", "<noBreak>") or mapped == "0020" or ord(character) in _LIGATURES
    if is_form:
        return unicodedata.normalize("NFKC", character)
    return _ALIKE.get(character, character)
