"""The code blocks of the documentation, taken out of its pages.

A block says by its first line what is done with it:

    ```yaml title="patterns/facts.yaml"    becomes that file of the page's project; any language
    ```yaml, ```toml, ```json              must parse
    ```python                              must run
    ```console                             ``$ pytest …`` and ``$ engram-bench …`` are run in order; the lines below a command
                                           are found in what it prints, ``…`` stands for anything
    ```text                                is shown and nothing else

A comment on the line before a block changes that: ``<!-- exit: 1 -->``, ``<!-- knows: {"prompt": "answer"} -->`` for the bare
model of the fake backend, ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<note>[^\n]*) -->\n\s*)?^(?P<indent> *)```(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One code block."""

    language: str
    text: str
    title: str
    """File that it becomes; empty for none."""
    note: str
    """The comment before it, as ``key: value``."""
    line: int

    def noted(self, key: str) -> str:
        """What the comment says under *key*; empty if it does not."""
        name, _, value = self.note.partition(": ")
        return value if name == key else ""


@dataclass(frozen=True)
class Command:
    """A command of a console block with the output shown below it."""

    words: str
    output: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            language=found["language"],
            text=textwrap.dedent(found["text"]),
            title=next(iter(re.findall(r'title="([^"]+)"', found["rest"])), ""),
            note=found["note"] or "",
            line=text.count("\n", 0, found.start()) + 1,
        )
        for found in _BLOCK.finditer(text)
    ]


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        first, *output = part.replace("\\\n", " ").splitlines()
        yield Command(first.partition("  #")[0].strip(), tuple(line for line in output if line.strip()))


def missing_line(output: str, expected: tuple[str, ...]) -> str:
    """The first expected line that is not in the output after the ones before; empty if all are. Spaces do not count."""
    found = [" ".join(line.split()) for line in output.splitlines()]
    place = 0
    for line in expected:
        pattern = ".*".join(map(re.escape, " ".join(line.split()).split("…")))
        hits = (index for index in range(place, len(found)) if re.fullmatch(pattern, found[index]))
        place = next(hits, -1) + 1
        if not place:
            return line
    return ""
