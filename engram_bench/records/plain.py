"""Records as plain JSON values and back, by their type hints: lossless, checked, without a second schema to maintain.

A dataclass becomes an object with every field written out, and a tuple becomes an array. JSON has no NaN and no infinity,
so such a float becomes ``{"float": "nan"}``, ``{"float": "inf"}`` or ``{"float": "-inf"}``: other readers see valid JSON.
"""

from __future__ import annotations

import json
import math
import numbers
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from itertools import islice, repeat
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

JSON_KEY = "json"
"""Metadata key of a field with another name in JSON, ``field(metadata={JSON_KEY: "old_name"})``: older files stay readable."""

T = TypeVar("T")
Reader = Callable[[Any], Any]


class RecordMismatch(ValueError):
    """A plain value does not fit its record: ``results[3].score.outcome: found 'ok', expected …``.

    The module that knows the file turns this error into one of its own.
    """

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.path = ""

    def inside(self, step: str | int) -> RecordMismatch:
        """The same mismatch seen from one level further out, where *step* is the field or the index."""
        self.path = (f"[{step}]" if isinstance(step, int) else f".{step}") + self.path
        return self

    def __str__(self) -> str:
        return f"{self.path.lstrip('.')}: {self.args[0]}" if self.path else str(self.args[0])


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


def to_plain(value: object) -> Any:
    """A value made of dict, list, str, int, float, bool and None, ready for ``json.dumps(allow_nan=False)``.

    Numbers of other libraries, such as NumPy's, become Python's.

    Raises:
        TypeError: The value holds something that no record holds, such as a set.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    kind: Any = type(value)
    if keys := _json_keys(kind):
        return {key: to_plain(getattr(value, name)) for name, key in keys.items()}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return to_plain(float(value))
    msg = f"{type(value).__name__} {value!r}: expected a record, mapping, tuple, text or number"
    raise TypeError(msg)


def to_json(plain: object) -> str:
    """JSON text of a plain value on one line; letters of every language stay as they are."""
    return _LETTERS_KEPT.encode(plain)


def to_json_lines(plain: Mapping[str, Any]) -> str:
    """JSON text of an object with one line per key, and one line per row where a value is an array of objects.

    A file of many rows stays small this way, and a diff of two files shows the rows that differ.
    """
    return "{" + ",\n".join(f"{to_json(key)}: {_rows(value)}" for key, value in plain.items()) + "}\n"


def canonical_json(value: object) -> str:
    """One JSON text per value, whatever the order of keys in its mappings; fingerprints are computed from this text."""
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


_LETTERS_KEPT = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # making one takes longer than writing a row


def _rows(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(map(to_json, value)) + "]"
    return to_json(value)


@cache
def _json_keys(kind: Any) -> Mapping[str, str]:
    """Each field of a record with its key in JSON, in order; empty for any other type."""
    return {each.name: _json_key(each) for each in fields(kind)} if is_dataclass(kind) else {}


def _json_key(each: Field[Any]) -> str:
    """The field's own name, or the one that its metadata keep for files of older versions."""
    return str(each.metadata.get(JSON_KEY, each.name))


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def from_plain(kind: type[T], plain: object) -> T:
    """The *kind* that :func:`to_plain` wrote. Records inside *plain* that are read already are taken as they are.

    A missing field takes its default, so files written before the field existed can be read.

    Raises:
        RecordMismatch: A required field is missing, a key is unknown or a value has another type. The message names the
            path to the value.
    """
    hint: Any = kind
    value: T = _reader(hint)(plain)
    return value


@cache
def _reader(hint: Any) -> Reader:
    """The function that reads one value of a type hint, built once per hint."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _record_reader(hint)  # type: ignore[arg-type]  # is_dataclass also accepts instances
    if origin in (Union, types.UnionType):
        return _union_reader(args)
    if origin is Literal:
        return _literal_reader(args)
    if origin is tuple:
        return _tuple_reader(args)
    if origin is Mapping:
        return _mapping_reader(args[1])
    return _read_float if hint is float else _scalar_reader(hint)


def _record_reader(kind: type) -> Reader:
    readers: dict[str, Reader] = {}
    required = {_json_key(each) for each in fields(kind) if _has_no_default(each)}
    names = {key: name for name, key in _json_keys(kind).items()}

    def read(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            raise _mismatch(value, f"an object with {', '.join(readers)}")
        if missing := required - value.keys():
            msg = f"{', '.join(sorted(missing))} missing"
            raise RecordMismatch(msg)
        if unknown := value.keys() - readers.keys():
            raise _mismatch(min(unknown), f"one of {', '.join(readers)}")
        read_values = _read_all([readers[key] for key in value], value.values(), value)
        return kind(**{names[key]: each for key, each in zip(value, read_values, strict=True)})

    hints = get_type_hints(kind)
    readers.update((key, _reader(hints[name])) for key, name in names.items())
    return read


def _union_reader(members: tuple[Any, ...]) -> Reader:
    readers = [_reader(member) for member in members if member is not types.NoneType]
    optional = len(readers) < len(members)

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        mismatch = None
        for reader in readers:
            try:
                return reader(value)
            except RecordMismatch as error:
                mismatch = error
        if mismatch is not None and len(readers) == 1:
            raise mismatch
        raise _mismatch(value, " or ".join(_NAMES.get(member, str(member)) for member in members))

    return read


def _literal_reader(allowed: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if isinstance(value, str) and value in allowed:
            return value
        raise _mismatch(value, " or ".join(map(repr, allowed)))

    return read


def _tuple_reader(members: tuple[Any, ...]) -> Reader:
    """Reader of ``tuple[X, ...]`` of any length, or of ``tuple[X, Y]`` of exactly that length."""
    any_length = members[-1] is Ellipsis
    readers = [_reader(member) for member in members if member is not Ellipsis]

    def read(value: Any) -> Any:
        if not isinstance(value, list) or not (any_length or len(value) == len(readers)):
            raise _mismatch(value, "an array" if any_length else f"an array of {len(readers)}")
        chosen = repeat(readers[0]) if any_length else readers
        return tuple(_read_all(chosen, value, range(len(value))))

    return read


def _mapping_reader(member: Any) -> Reader:
    reader = _reader(member)

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _mismatch(value, "an object")
        return dict(zip(value, _read_all(repeat(reader), value.values(), value), strict=True))

    return read


def _scalar_reader(kind: type) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is kind:  # True is no int here
            return value
        raise _mismatch(value, _NAMES[kind])

    return read


def _read_float(value: Any) -> float:
    if isinstance(value, dict) and value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
        return float(value["float"])
    if type(value) not in (int, float) or not -_LARGEST <= value <= _LARGEST:
        raise _mismatch(value, "a number")
    return float(value)


def _read_all(readers: Iterable[Reader], values: Iterable[Any], steps: Iterable[str | int]) -> list[Any]:
    """Each value read by its reader; a mismatch is extended by the step at which it was found."""
    read: list[Any] = []
    try:
        for reader, value in zip(readers, values, strict=False):
            read.append(reader(value))
    except RecordMismatch as error:
        raise error.inside(next(islice(steps, len(read), None))) from None
    return read


def _has_no_default(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _mismatch(value: object, expected: str) -> RecordMismatch:
    found = repr(value)
    return RecordMismatch(f"found {found if len(found) <= 60 else found[:57] + '…'}, expected {expected}")


_LARGEST = sys.float_info.max
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}
