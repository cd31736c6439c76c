"""YAML as plain data with line numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MAX_DEPTH = 16
"""Deepest nesting of a file; a pattern file needs four levels."""
MAX_SCALAR = 400
"""Longest number, date or truth value, in characters; a longer word is text. Reading ``1:1:1:…`` costs its length squared."""
MAX_EVENTS = 1_500_000
"""Most values of a file, keys and brackets included; 100,000 patterns have a million."""
MAX_EXPANSION = 10
"""Largest number of values that aliases may stand for, per value written in the file."""

Location = Sequence[str | int]
"""Path to a value inside another: ``("wordings", 2)``."""
Mistake = tuple[int, str]
"""Line, counted from 1, and the message: what was found there and what was expected."""


class UnreadableError(Exception):
    """The file is not YAML, JSON or text. The line counts from 1; 0 means the whole file."""

    def __init__(self, line: int, found: str) -> None:
        super().__init__(found)
        self.line = line


@dataclass(slots=True)
class Node:
    """A value of a YAML file with its line number."""

    line: int
    value: Any
    """Scalar, ``list[Node]`` or ``dict[str, Node]``."""
    written: str | None = None
    """Text of an unquoted scalar in the file; None for quoted text, lists and mappings."""
    size: int = 1
    """Number of values below and including this one; an alias counts each time it is used."""

    def plain(self) -> Any:
        """The value without line numbers."""
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return self.value

    def at(self, location: Location) -> Node:
        """The node at *location*, or the deepest existing node on the way there."""
        node = self
        step: Any
        for step in location:
            try:
                node = node.value[step] if isinstance(node.value, dict | list) else node
            except (KeyError, IndexError, TypeError):
                break
        return node


def parse_yaml(text: str, mistakes: list[Mistake]) -> Node | None:
    """The tree of a YAML text; None for a text without a document. Repeated keys and tags are added to *mistakes*.

    The tree is built from the parser's events, not by a loader: no tag can build an object, nesting and alias expansion
    have bounds (PyYAML's C composer overflows the stack on 100,000 open brackets), and repeated keys are found.

    Raises:
        UnreadableError: The text is not YAML, has several documents, is nested too deeply, or has aliases that
            stand for too many values.
    """
    try:
        return _Builder(mistakes).build(yaml.parse(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = f"not YAML: {error.problem or error.context}"
        raise UnreadableError(mark.line + 1 if mark else 0, found) from error
    except yaml.reader.ReaderError as error:
        found = f"character U+{error.character:04X}, expected printable text"
        raise UnreadableError(text.count("\n", 0, error.position) + 1, found) from error


def describe(value: Any) -> str:
    """A value in the words of a message: text as a shortened ``repr``, scalars as YAML has them, containers by their kind."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.SafeLoader("")


class _Builder:
    """Builder of nodes from parser events, without recursion."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self._mistakes = mistakes
        self._anchors: dict[str, Node] = {}
        self._open: list[tuple[Node, Node | None]] = []  # containers not yet closed, each with its waiting key
        self._root: Node | None = None

    def build(self, events: Iterator[Any]) -> Node | None:
        """The first document's root."""
        for written, event in enumerate(events):
            line = event.start_mark.line + 1
            if written > MAX_EVENTS:
                found = f"more than {MAX_EVENTS:,} values: write large sets as .jsonl"
                raise UnreadableError(line, found)
            match event:
                case yaml.DocumentStartEvent() if self._root is not None:
                    raise UnreadableError(line, "a second document, expected one per file")
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._check_tag(event, line)
                    if len(self._open) == MAX_DEPTH:
                        found = f"nested deeper than {MAX_DEPTH} levels, expected a pattern file"
                        raise UnreadableError(line, found)
                    node = Node(line, {} if isinstance(event, yaml.MappingStartEvent) else [])
                    self._name(event, node)
                    self._open.append((node, None))
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    node, _ = self._open.pop()
                    self._add(node)
                case yaml.ScalarEvent():
                    self._check_tag(event, line)
                    node = _scalar(event, line)
                    self._name(event, node)
                    self._add(node)
                case yaml.AliasEvent():
                    node = self._aliased(event.anchor or "", line)
                    self._add(node)
                    if self._size() > MAX_EXPANSION * written + 10_000:
                        found = (
                            f"aliases for too many values, expected at most {MAX_EXPANSION} times the values written"
                        )
                        raise UnreadableError(line, found)
        return self._root

    def _check_tag(self, event: Any, line: int) -> None:
        if event.tag not in _TAGS:
            self._mistakes.append((line, f"tag {describe(event.tag)}, expected plain text"))

    def _name(self, event: Any, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _aliased(self, anchor: str, line: int) -> Node:
        node = self._anchors.get(anchor)
        if node is None:
            found = f"alias *{anchor}, expected an anchor &{anchor} above it"
            raise UnreadableError(line, found)
        if any(node is container for container, _ in self._open):
            found = f"alias *{anchor} is inside its own anchor, expected it outside"
            raise UnreadableError(line, found)
        return node

    def _size(self) -> int:
        return sum(node.size for node, _ in self._open)

    def _add(self, node: Node) -> None:
        """Add a complete node to the innermost open container."""
        if not self._open:
            self._root = node
            return
        parent, key = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif key is None:
            self._open[-1] = (parent, node)
            return
        else:
            self._open[-1] = (parent, None)
            name = key.value if isinstance(key.value, str) else key.written or describe(key.plain())
            if name in parent.value:
                first = parent.value[name].line
                self._mistakes.append((key.line, f"key {name!r} is repeated, expected it once (first on line {first})"))
            else:
                parent.value[name] = node
        parent.size += node.size


def _scalar(event: Any, line: int) -> Node:
    """The node of a text, number, truth value, date or null, by the rules of YAML 1.1.

    The signs ``=`` and ``<<`` are texts: a pattern file has neither default values nor merged mappings.
    """
    if len(event.value) > MAX_SCALAR:
        return Node(line, event.value)
    tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit) if event.tag in (None, "!") else event.tag
    if tag.removeprefix(_YAML) not in _SCALARS:
        return Node(line, event.value)
    try:
        return Node(line, _SCALARS[tag.removeprefix(_YAML)](_RESOLVER, yaml.ScalarNode(tag, event.value)), event.value)
    except (ValueError, LookupError, AttributeError, OverflowError):
        return Node(line, event.value)  # 2024-02-31 looks like a date, and !!bool may stand before any word


_YAML = "tag:yaml.org,2002:"
_SCALARS: dict[str, Any] = {
    name: yaml.SafeLoader.yaml_constructors[_YAML + name] for name in ("null", "bool", "int", "float", "timestamp")
}
"""Constructor of each kind of scalar that is something other than text."""
_TAGS = (None, "!", *(_YAML + name for name in ("str", "map", "seq", *_SCALARS)))
"""Tags that a value may have."""
