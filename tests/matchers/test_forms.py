"""Forms of characters: what is folded, and that long rows of accents change nothing."""

from __future__ import annotations

import random
import unicodedata

import pytest

from engram_bench.matchers.forms import fold_forms

MARKS = [*map(chr, range(0x300, 0x370)), "ộ", "a", "Å", "각", "ṩ", "\u05b0", "\u0591"]


@pytest.mark.parametrize("seed", range(5))
def test_long_rows_of_accents_are_those_of_unicode(seed: int) -> None:
    text = "".join(random.Random(seed).choices(MARKS, k=3000))

    assert fold_forms(text) == unicodedata.normalize("NFC", text)


def test_half_a_million_accents_are_folded() -> None:
    folded = fold_forms("a" + "\u0308\u0316" * 250_000)  # sorting them one by one would take minutes

    assert folded == "ä" + "\u0316" * 250_000 + "\u0308" * 249_999
