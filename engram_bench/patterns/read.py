"""Pattern files as rows of plain data with line numbers, before the check against the schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from engram_bench.patterns.nodes import MAX_DEPTH, Location, Mistake, Node, UnreadableError, describe, parse_yaml
from engram_bench.system.reading import check_regular, open_regular, parse_json, read_bytes

MAX_YAML_BYTES = 64 * 2**20
"""Largest YAML file; a larger set belongs in JSONL, which is read line by line."""
MAX_LINE_BYTES = 2**20
"""Longest line of a JSONL file."""


@dataclass(slots=True)
class FileRow:
    """A mapping of the file: the header or one pattern."""

    values: Any
    line: int
    node: Node | None = None
    """Tree of the mapping; None in a JSONL file, where a row is one line."""

    def line_of(self, location: Location) -> int:
        """Line of the value at *location*; the row's own line where the value is missing."""
        return self.node.at(location).line if self.node else self.line

    def unquoted(self, location: Location) -> str | None:
        """The scalar as written, where YAML reads an unquoted word as something other than text; else None."""
        node = self.node.at(location) if self.node else None
        return None if node is None or isinstance(node.value, str) else node.written


@dataclass(slots=True)
class Document:
    """A pattern file, split into its header and its patterns."""

    header: FileRow
    rows: Iterator[FileRow]
    mistakes: list[Mistake] = field(default_factory=list)
    """Mistakes found while reading, with their lines; for JSONL complete only once *rows* is exhausted."""


def read_yaml(path: Path) -> Document:
    """The document of a YAML file, with its ``patterns`` (or ``examples``) apart from the header.

    Raises:
        UnreadableError: The file is not YAML, not a mapping, too large, nested too deeply, or has aliases for too many
            values.
    """
    if (size := check_regular(path)) > MAX_YAML_BYTES:
        found = f"{size:,} bytes, expected at most {MAX_YAML_BYTES:,}: write large sets as .jsonl"
        raise UnreadableError(0, found)
    mistakes: list[Mistake] = []
    root = parse_yaml(_decode(read_bytes(path, limit=MAX_YAML_BYTES)), mistakes)
    if root is None:
        raise UnreadableError(1, "the file is empty, expected a mapping with 'name' and 'patterns'")
    if not isinstance(root.value, dict):
        found = f"{describe(root.plain())}, expected a mapping with 'name' and 'patterns'"
        raise UnreadableError(root.line, found)
    key = "patterns" if "patterns" in root.value else "examples"
    if key == "patterns" and "examples" in root.value:
        mistakes.append((root.value["examples"].line, "both 'patterns' and 'examples', expected one of them"))
        del root.value["examples"]
    entries = root.value.get(key)
    if entries is not None and not isinstance(entries.value, list):
        mistakes.append((entries.line, f"{key} is {describe(entries.plain())}, expected a list of patterns"))
        entries = None
    header = FileRow({name: node.plain() for name, node in root.value.items() if name != key}, root.line, root)
    return Document(
        header, (FileRow(node.plain(), node.line, node) for node in (entries.value if entries else ())), mistakes
    )


def read_jsonl(path: Path) -> Document:
    """The document of a JSONL file with a pattern per line, read line by line.

    The first line may be a header: an object without ``input``. A file without a header is named after its stem. A line
    that is not JSON is left out and becomes one of the document's mistakes.
    """
    mistakes: list[Mistake] = []
    rows = _json_rows(path, mistakes)
    first = next(rows, None)
    if first is not None and isinstance(first.values, dict) and "input" not in first.values:
        return Document(FileRow({"name": path.stem, **first.values}, first.line), rows, mistakes)
    return Document(FileRow({"name": path.stem}, 1), chain([first] if first else [], rows), mistakes)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x}, expected UTF-8 text"
        raise UnreadableError(line, found) from error


def _json_rows(path: Path, mistakes: list[Mistake]) -> Iterator[FileRow]:
    with open_regular(path) as lines:
        number = 0
        while data := lines.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(data) > MAX_LINE_BYTES:
                found = f"more than {MAX_LINE_BYTES:,} bytes, expected one pattern per line"
                raise UnreadableError(number, found)
            if data.isspace():
                continue
            try:
                yield FileRow(parse_json(_decode(data), deepest=MAX_DEPTH, pairs_hook=_unique), number)
            except UnreadableError as error:
                mistakes.append((number, str(error)))
            except ValueError as error:
                found = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                mistakes.append((number, f"not JSON: {found}"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different.

    Raises:
        ValueError: A key is repeated.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        found = f"key {describe(repeated)} is repeated"
        raise ValueError(found)
    return values
