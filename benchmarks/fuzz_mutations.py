"""Ways in which a file may be not what it should be: bytes, JSON values and texts, changed by a seeded random source."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

HOSTILE_TEXTS = (
    "",
    "\0",
    "../../../etc/passwd",
    "/dev/zero",
    "~nosuchuser/x",
    "\x1b[2J\x1b]0;x\x07",
    "\u202eevil\u202c",
    "\udc80",
    "::error::x",
    "<script>alert(1)</script>",
    "nan",
    "%s%s%n",
    "{{ 9**9**9 }}",
    "a" * 70_000,
    "é" * 5000,
    "~" * 9000,
    '"' * 9000,
)
HOSTILE_NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**32,
    2**63,
    2**64,
    -(2**63),
    10**40,
    1e308,
    -1e308,
    5e-324,
    0.5,
    float("inf"),
    float("nan"),
)
HOSTILE_VALUES: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: [],
    lambda: {},
    lambda: [[]],
    lambda: {"": {}},
    lambda: nested(40),
    lambda: nested(300),
    lambda: list(range(2000)),
    lambda: {str(number): number for number in range(500)},
)
LENGTHS = (0, 1, 7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


def nested(depth: int) -> Any:
    """A list in a list, *depth* levels deep."""
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def changed_bytes(data: bytes, source: random.Random) -> bytes:
    """The bytes with one to three changes: bits, cuts, copies, lengths, noise."""
    content = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 3))):
        source.choice(_BYTE_CHANGES)(content, source)
    return bytes(content)


def changed_json(text: str, source: random.Random) -> bytes:
    """The JSON text with one to three values, keys or positions changed; now and then with changed bytes."""
    if source.random() < 0.2:
        return changed_bytes(text.encode(), source)
    if source.random() < 0.1:
        return _whole_text(source).encode("utf-8", "surrogatepass")
    value = json.loads(text)
    for _ in range(source.choice((1, 1, 2, 3))):
        value = _changed_value(value, source)
    try:
        written = json.dumps(value)
    except (ValueError, RecursionError):
        written = "[" * 3000
    if source.random() < 0.1:
        digits = "9" * source.choice((20, 301, 5000, 20_000))
        written = written.replace("1", digits, 1)
    return written.encode("utf-8", "surrogatepass")


def changed_text(text: str, tokens: Sequence[str], source: random.Random) -> bytes:
    """The text with tokens of its language put in, left out or repeated; now and then with changed bytes."""
    if source.random() < 0.2:
        return changed_bytes(text.encode(), source)
    for _ in range(source.choice((1, 2, 4))):
        at = source.randrange(len(text) + 1)
        token = source.choice((*tokens, *HOSTILE_TEXTS)) * source.choice((1, 1, 1, 2, 60))
        text = text[:at] + token[:100_000] + text[at + source.choice((0, 0, 1, len(token), 30)) :]
    return text.encode("utf-8", "surrogatepass")


def hostile_value(source: random.Random) -> Any:
    """A value that somebody did not think of."""
    kind = source.random()
    if kind < 0.35:
        return source.choice(HOSTILE_TEXTS)
    if kind < 0.7:
        return source.choice(HOSTILE_NUMBERS)
    return source.choice(HOSTILE_VALUES)()


def _changed_value(value: Any, source: random.Random) -> Any:
    """A JSON value with one position in it changed."""
    places = list(_places(value))
    if not places:
        return hostile_value(source)
    holder, key = source.choice(places)
    change = source.random()
    if change < 0.65:
        holder[key] = hostile_value(source)
    elif change < 0.8:
        del holder[key]
    elif isinstance(holder, dict):
        holder[str(source.choice(HOSTILE_TEXTS))] = hostile_value(source)
    else:
        holder.extend(holder[: source.choice((1, 100))])
    return value


def _places(value: Any) -> Any:
    """Every list and mapping with every index and key, from the outside in."""
    todo = [value]
    while todo:
        each = todo.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        for key in keys:
            yield each, key
            if isinstance(each[key], dict | list):
                todo.append(each[key])


def _whole_text(source: random.Random) -> str:
    return source.choice(
        (
            "",
            "null",
            "[]",
            "{}",
            "[" * 900,
            "[" * 100_000,
            '{"a":' * 5000,
            "9" * 10_000,
            "NaN",
            '"' + "\\" * 5001,
            "[" + "[]," * 50_000,
        )
    )


def _flip(content: bytearray, source: random.Random) -> None:
    for _ in range(source.choice((1, 4, 32))):
        if content:
            content[source.randrange(len(content))] ^= 1 << source.randrange(8)


def _cut(content: bytearray, source: random.Random) -> None:
    del content[source.randrange(len(content) + 1) :]


def _leave_out(content: bytearray, source: random.Random) -> None:
    at = source.randrange(len(content) + 1)
    del content[at : at + source.choice((1, 8, 64, 1000))]


def _repeat(content: bytearray, source: random.Random) -> None:
    at = source.randrange(len(content) + 1)
    part = content[at : at + source.choice((8, 64, 1000))]
    content[at:at] = part * source.choice((1, 2, 50))


def _noise(content: bytearray, source: random.Random) -> None:
    at = source.randrange(len(content) + 1)
    content[at : at + source.choice((0, 4, 64))] = source.randbytes(source.choice((1, 8, 64)))


def _length(content: bytearray, source: random.Random) -> None:
    """Overwrite what may be a length, most often near the start."""
    last = min(len(content), source.choice((32, 400, len(content) or 1)))
    at = source.randrange(last + 1)
    form, mask = source.choice((("<Q", 2**64 - 1), ("<I", 2**32 - 1)))
    content[at : at + struct.calcsize(form)] = struct.pack(form, source.choice(LENGTHS) & mask)


def _start(content: bytearray, source: random.Random) -> None:
    """A hostile length at the very start, as safetensors has one."""
    content[:8] = struct.pack(
        "<Q", source.choice((*LENGTHS, len(content), len(content) - 8 if len(content) > 8 else 1))
    )


_BYTE_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _cut,
    _leave_out,
    _repeat,
    _noise,
    _length,
    _length,
    _start,
)
