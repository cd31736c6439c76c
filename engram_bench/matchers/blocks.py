"""Fenced blocks of Markdown in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_OPENING = re.compile(r"(?:^|(?<=[\s:]))(`{3,}|~{3,})([^`~\n]*)$")
INLINE_CODE = re.compile(r"(?<!`)(`{1,9})(?!`)([^`]+)\1(?!`)")
"""Code between backticks, in group 2."""


@dataclass(frozen=True, slots=True)
class FencedBlock:
    """One fenced block."""

    language: str
    """First word after the opening fence, in lower case; empty where there is none."""
    body: str
    is_whole: bool
    """Whether nothing but space stands outside the block in its text."""


def blocks(text: str) -> Iterator[FencedBlock]:
    """The fenced blocks of a text in order; a fence that is left open runs to the end.

    A fence is three or more backticks or tildes. The closing one stands alone on its line, is of the same character and at
    least as long. Each line is read once, so the time grows with the length of the text alone.

    Source: CommonMark 0.31, section 4.5; an opening fence behind a word and a space counts as well, since models write it.
    """
    lines = text.split("\n")
    before, at = "", 0
    while at < len(lines):
        opening = _OPENING.search(lines[at])
        if opening is None:
            before += lines[at]
            at += 1
            continue
        before += lines[at][: opening.start()]
        end = next((row for row in range(at + 1, len(lines)) if _closes(lines[row], opening[1])), len(lines))
        is_alone = not before.strip() and not any(line.strip() for line in lines[end + 1 :])
        language = (opening[2].split() or [""])[0].lower()
        yield FencedBlock(language, "\n".join(lines[at + 1 : end]), is_alone)
        before, at = before + "x", end + 1


def unwrapped(text: str) -> str:
    """The body of the only fenced block where the text is nothing else, or of backticks around the whole; else the text."""
    block = next(blocks(text), None)
    if block is not None and block.is_whole:
        return block.body
    inline = INLINE_CODE.fullmatch(text.strip())
    return inline[2] if inline else text


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    return len(mark) >= len(fence) and mark == fence[0] * len(mark)
