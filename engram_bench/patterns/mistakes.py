"""Mistakes that pydantic finds in a row, worded for the author of the file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from engram_bench.patterns.nodes import Location, Mistake, describe
from engram_bench.patterns.read import FileRow
from engram_bench.patterns.schema import MemoryFile, QuestionHeader

_EXPECTED = {
    "string_type": "text",
    "string_unicode": "text without lone surrogates",
    "string_too_short": "at least one character",
    "string_too_long": "at most {max_length} characters",
    "list_type": "a list",
    "tuple_type": "a list",
    "too_short": "at least one entry",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "model_type": "a mapping",
}


def row_mistakes(error: ValidationError, row: FileRow, model: type[BaseModel]) -> Iterator[Mistake]:
    """The line and message of each mistake in *row*: ``output is '', expected at least one character``."""
    for detail in error.errors(include_url=False):
        location: Location = detail["loc"]
        yield row.line_of(location), _worded(detail, row, model)


def did_you_mean(found: str, known: Collection[str]) -> str:
    """The expected name in place of *found*: the most similar of *known*, or all of them where none is similar."""
    close = get_close_matches(found, known, n=1)
    return repr(close[0]) if close else f"one of {', '.join(known)}"


def _worded(detail: Mapping[str, Any], row: FileRow, model: type[BaseModel]) -> str:
    location, kind, value = detail["loc"], detail["type"], detail["input"]
    name = "".join(f" {step + 1}" if isinstance(step, int) else step for step in location)
    if kind == "extra_forbidden":
        known = (MemoryFile if model is QuestionHeader else model).model_fields
        return f"unknown key {name!r}, expected {did_you_mean(name, list(known))}"
    if kind == "missing":
        return f"{name} is missing, expected {'a list' if name == 'prompts' else 'text'}"
    if kind == "string_pattern_mismatch":
        is_id = name == "id"
        expected = "letters, digits, '.', '_' and '-'" if is_id else "no control characters but newline and tab"
        return f"{name} is {describe(value)}, expected {expected}"
    expected = _EXPECTED.get(kind, detail["msg"]).format(**detail.get("ctx", {}))
    written = row.unquoted(location)
    if kind == "string_type" and written:
        shown = written if len(written) <= 60 else written[:59] + "…"
        return f'{name} is {shown} without quotes, which YAML reads as {_read_as(value)}, expected text: "{shown}"'
    return f"{name} is {describe(value)}, expected {expected}" if name else f"{describe(value)}, expected {expected}"


def _read_as(value: Any) -> str:
    """Type of a YAML scalar in words."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    return "nothing" if value is None else f"a {type(value).__name__}"
