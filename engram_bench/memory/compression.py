"""Tokenizer compression: token ids whose text is the same up to case, accents and white space become one."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer


def compressed_ids(tokenizer: ChatTokenizer) -> NDArray[np.int64]:
    """The class of each token id, counted from 0 in the order of the classes' first ids.

    Source: section 2.2 of arXiv 2601.07372 and ``engram_demo_v1.py``: NFKC, NFD, accents dropped, lower case, runs of
    white space to one space, trimmed unless that is all there is. A token that is no whole character stays alone.
    """
    numbers: dict[str, int] = {}
    classes = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    for token in range(tokenizer.vocab_size):
        text = tokenizer.decode([token])
        key = f"\0{token}" if "\N{REPLACEMENT CHARACTER}" in text else normalised(text)
        classes[token] = numbers.setdefault(key, len(numbers))
    return classes


def normalised(text: str) -> str:
    """The text that all tokens of a class have in common."""
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Mn").lower()
    plain = re.sub(r"[ \t\r\n]+", " ", plain)
    return (plain if plain == " " else plain.strip()) or text


ALONE, BEGINS, GOES_ON = 0, 1, 2


def word_parts(tokenizer: ChatTokenizer) -> NDArray[np.int8]:
    """The part that each token id takes in words: ALONE is in none, BEGINS comes after a space, GOES_ON is any other."""
    parts = np.zeros(tokenizer.vocab_size, dtype=np.int8)
    for token in range(tokenizer.vocab_size):
        text = tokenizer.decode([token])
        if text.strip().isalnum():
            parts[token] = BEGINS if text[0].isspace() else GOES_ON
    return parts
