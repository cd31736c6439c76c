"""Matchers that compare what a text parses to: ``python`` and ``json``. Nothing is ever executed."""

from __future__ import annotations

import ast
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from itertools import islice
from json import JSONDecoder
from typing import Any

from engram_bench.matchers.blocks import INLINE_CODE, blocks
from engram_bench.matchers.protocol import UnusableAnswer, miss, shown

MAX_SOURCE = 10_000
"""Longest source that is parsed, in characters."""

_MAX_STARTS = 20
"""Brackets tried as the start of a JSON value in running text; without a bound ``[[[[…`` costs its length squared."""

_BRACKET = re.compile(r"[\[{]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?P<end>"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A string, which may be open at the end of the text, or a bracket outside of strings."""
_ANY_BRACKET = re.compile(r"[\[\]{}]")

_NOT_SOURCE = (SyntaxError, ValueError, RecursionError, MemoryError, InvalidOperation)
"""What ``ast`` and ``json`` raise on text that is not source, is too deep or has a number of too many digits."""


def python(text: str, answer: str) -> bool | str:
    """Both parse to the same syntax tree: spacing, quotes, brackets that change nothing and comments do not count.

    The first fenced block marked as Python is taken where there is one, else the first block.
    A header or a decorator that cannot stand alone
    (``for x in xs:``, ``else:``, ``@property``) is read with a ``pass`` below it. Names count: ``x`` is not ``item``.

    Raises:
        UnusableAnswer: The answer is not Python, is nothing but comments, or is longer than :data:`MAX_SOURCE`.
    """
    try:
        expected = _tree(answer)
    except _NOT_SOURCE as error:
        message = f"answer {shown(answer)} is not Python: {error}"
        raise UnusableAnswer(message) from error
    try:
        return _tree(text) == expected or miss(text, f"the same syntax tree as {shown(answer)}")
    except _NOT_SOURCE:
        return miss(text, f"Python like {shown(answer)}")


def json(text: str, answer: str) -> bool | str:
    """Both hold the same JSON value: order of keys and way of writing (``1.0``, ``1e0``) do not count.

    Of the text the whole is tried, then its fenced blocks (those marked ``json`` first), then the objects and arrays that
    stand in it. The first of these that has a value of the answer's type counts. Where several such values stand there
    and are not the same, the text is ambiguous, which is a miss. An object that has a key twice is no JSON.

    Raises:
        UnusableAnswer: The answer is not JSON.
    """
    try:
        expected = _value(answer)
    except _NOT_SOURCE as error:
        message = f"answer {shown(answer)} is not JSON: {error}"
        raise UnusableAnswer(message) from error
    for values in _values(text):
        alike = [value for value in values if type(value) is type(expected)]
        if any(value != alike[0] for value in alike):
            return f"found {shown(text)}, which holds several JSON values, expected one"
        if alike:
            return alike[0] == expected or miss(text, f"the value of {shown(answer)}")
    return miss(text, f"JSON like {shown(answer)}")


def _tree(source: str) -> str:
    """The syntax tree as text, read as it stands or in the first frame that makes it whole; never an empty one."""
    source = textwrap.dedent(_unfenced(source)).strip()
    if len(source) > MAX_SOURCE:
        message = f"{len(source)} characters, expected at most {MAX_SOURCE}"
        raise ValueError(message)
    if all(line.lstrip().startswith("#") for line in source.splitlines()):
        message = "it has no code"  # an empty tree would equal that of any other comment, and of silence
        raise ValueError(message)
    last = source.splitlines()[-1]
    body = "\n" + last[: len(last) - len(last.lstrip())] + "   pass"
    frames = (("", ""), ("", body), ("try: pass\n", body), ("if _: pass\n", body), ("match _:\n ", body))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in a model's answer is no warning of ours
        for before, after in (*frames, ("", "\ndef _(): pass")):
            with suppress(SyntaxError):
                return ast.dump(_whole(ast.parse(before + source + after)))
        return ast.dump(_whole(ast.parse(source)))  # whose SyntaxError is the one to report


def _values(text: str) -> Iterator[list[Any]]:
    """The JSON values of a text by where they stand, most likely first."""
    fenced = list(blocks(text))
    yield _parsed([text])
    yield _parsed([block.body for block in fenced if block.language.startswith("json")])
    yield _parsed([block.body for block in fenced])
    yield _parsed([inline[2] for inline in islice(INLINE_CODE.finditer(text), _MAX_STARTS)])
    yield list(_embedded(text))


def _parsed(texts: Iterable[str]) -> list[Any]:
    found = []
    for text in texts:
        with suppress(*_NOT_SOURCE):
            found.append(_value(text))
    return found


def _embedded(text: str) -> Iterator[Any]:
    """Objects and arrays in running text, none of them part of another one, JSON or not: a part is not the whole."""
    at = 0
    for opening in islice(_BRACKET.finditer(text), _MAX_STARTS):
        if opening.start() < at:
            continue
        with suppress(*_NOT_SOURCE):
            value, at = _DECODER.raw_decode(text, opening.start())
            yield value
            continue
        at = _closed_at(text, opening.start())


def _closed_at(text: str, start: int) -> int:
    """Where the bracket at *start* is closed, brackets in double quotes aside; the end of the text if nowhere."""
    depth, at, tokens = 0, start, _TOKEN
    while token := tokens.search(text, at):
        at = token.end()
        if token[0][0] == '"':
            if token["end"] != '"':  # then no later quote ends a string either, and each would be read to the end
                tokens, at = _ANY_BRACKET, token.start() + 1
            continue
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth <= 0:
            return token.end()
    return len(text)


def _value(text: str) -> Any:
    return _DECODER.decode(text)


def _unfenced(text: str) -> str:
    """The body of the first fenced block of Python, else of the first one, or of backticks around the whole; else the text."""
    fenced = list(blocks(text))
    inline = INLINE_CODE.fullmatch(text.strip())
    for block in (*(each for each in fenced if each.language in ("python", "py", "python3", "pycon")), *fenced):
        return block.body
    return inline[2] if inline else text


def _whole(tree: ast.AST) -> ast.AST:
    """The tree, if its numbers are what the source says.

    Raises:
        ValueError: A float is too large for Python, which reads ``1e400`` and ``1e500`` as the same infinity.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex) and abs(node.value) == math.inf:
            message = "a number is too large to be distinguished from others"
            raise ValueError(message)
    return tree


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        message = "a key stands twice in an object"
        raise ValueError(message)
    return found


def _number(digits: str) -> tuple[str, Decimal]:
    """A number that equals no string, list or boolean, whichever way it is written."""
    return "number", Decimal(digits)


def _reject(constant: str) -> None:
    message = f"{constant} is not JSON"
    raise ValueError(message)


_DECODER = JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_reject, object_pairs_hook=_object)
