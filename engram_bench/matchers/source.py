"""Matchers that compare what a text parses to: ``python`` and ``json``. Nothing is ever executed."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from itertools import islice
from json import JSONDecoder
from typing import Any

from engram_bench.matchers.protocol import UnusableAnswer, miss, shown
from engram_bench.matchers.text import FENCED, INLINE_CODE

MAX_SOURCE = 10_000
"""Longest source that is parsed, in characters."""

_MAX_STARTS = 20
"""Brackets tried as the start of a JSON value in running text; without a bound ``[[[[…`` costs its length squared."""

_NOT_SOURCE = (SyntaxError, ValueError, RecursionError, MemoryError, InvalidOperation)
"""What ``ast`` and ``json`` raise on text that is not source, is too deep or has a number of too many digits."""


def python(text: str, answer: str) -> bool | str:
    """Both parse to the same syntax tree: spacing, quotes, brackets that change nothing and comments do not count.

    The first fenced block is taken where there is one. A header or a decorator that cannot stand alone
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

    Of the text the whole is tried, then its fenced blocks, then the first object or array that stands in it.

    Raises:
        UnusableAnswer: The answer is not JSON.
    """
    try:
        expected = _value(answer)
    except _NOT_SOURCE as error:
        message = f"answer {shown(answer)} is not JSON: {error}"
        raise UnusableAnswer(message) from error
    for value in _values(text):
        return value == expected or miss(text, f"the value of {shown(answer)}")
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
                return ast.dump(ast.parse(before + source + after))
        return ast.dump(ast.parse(source))  # whose SyntaxError is the one to report


def _values(text: str) -> Iterator[Any]:
    """The JSON values of a text, most likely first."""
    for whole in (text, _unfenced(text)):
        with suppress(*_NOT_SOURCE):
            yield _value(whole)
    for start in islice(re.finditer(r"[\[{]", text), _MAX_STARTS):
        with suppress(*_NOT_SOURCE):
            yield _DECODER.raw_decode(text, start.start())[0]


def _value(text: str) -> Any:
    return _DECODER.decode(text)


def _unfenced(text: str) -> str:
    """The body of the first fenced block, or of backticks around the whole; else the text."""
    found = FENCED.search(text) or INLINE_CODE.fullmatch(text.strip())
    return found[2] if found else text


def _number(digits: str) -> tuple[str, Decimal]:
    """A number that equals no string, list or boolean, whichever way it is written."""
    return "number", Decimal(digits)


def _reject(constant: str) -> None:
    message = f"{constant} is not JSON"
    raise ValueError(message)


_DECODER = JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_reject)
