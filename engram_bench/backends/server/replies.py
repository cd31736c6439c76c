"""Replies of a server, read with every field checked: bytes → an answer, a piece of one, names of models, or a refusal.

Nothing in a reply is believed: it may be no UTF-8, no JSON, nested a million deep, or have any type in any field.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from engram_bench.backends.server.thoughts import reasoning_tokens, whole_text
from engram_bench.backends.server.wire import Reply
from engram_bench.door import printable, scrubbed

T = TypeVar("T")

MOST_TOKENS = 10_000_000
"""Largest number of tokens that a server may claim for one answer."""
MOST_NAMES = 10_000
"""Largest number of models read from a list."""

_parsing = threading.Lock()
"""Held while a reply is parsed: parsed JSON takes up to thirty times the memory of its text."""


class Malformed(Exception):
    """A reply is not what was asked for; the text says what was found."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    is_cut: bool
    """Whether the limit of tokens ended the answer."""
    reasoning_tokens: int = 0
    """Number of tokens of the reasoning as the server counts them; 0 where it does not."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer."""

    text: str
    is_last: bool


def answer_of(reply: Reply) -> Answer:
    """The answer in a reply.

    Raises:
        Malformed: The reply is no chat completion, or the answer is not whole.
    """
    return _read(reply.body, _answer)


def piece_of(event: bytes) -> Piece:
    """The piece of an answer in one event of a stream.

    Raises:
        Malformed: The event is no piece of a chat completion.
    """
    return _read(event, _piece)


def names_of(reply: Reply) -> tuple[str, ...]:
    """Names of the models in a list of models, at most ``MOST_NAMES``; empty where the reply is no such list."""
    try:
        return _read(reply.body, _names)
    except Malformed:
        return ()


def refusal_of(reply: Reply) -> str:
    """Status, and what the server says about it: at most 120 characters of its message."""
    try:
        words = _read(reply.body, _error_message)
    except Malformed:
        words = reply.body[:4096].decode("utf-8", "replace")
    if 300 <= reply.status < 400:
        place = printable(reply.headers.get("location", ""), 120)
        return f"{reply.status}, a redirect to '{place}', which is not followed"
    return f"{reply.status} {printable(' '.join(words.split())[:4096], 120)}".strip()


def pause_of(reply: Reply) -> float | None:
    """Seconds that the server asks to wait; None where it names no number."""
    try:
        seconds = float(reply.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────


def _read(body: bytes, extract: Callable[[Any], T]) -> T:
    """What *extract* finds in the JSON of a body."""
    try:
        with _parsing:
            content = json.loads(
                body.decode("utf-8"), parse_constant=_no_such_number, object_pairs_hook=_with_each_key_once
            )
            return extract(content)
    except RecursionError:
        raise Malformed(_found(body, "nested too deeply")) from None
    except UnicodeDecodeError as error:
        raise Malformed(_found(body, f"no UTF-8 at byte {error.start}")) from error
    except _WrongField as error:
        raise Malformed(_found(body, str(error))) from error
    except ValueError as error:
        raise Malformed(_found(body, f"no JSON: {printable(str(error), 80)}")) from error


class _WrongField(ValueError):
    """A field has another type or value than the API says."""


def _found(body: bytes, why: str) -> str:
    start = printable(body[:4096].decode("utf-8", "replace").strip(), 80)
    return f"found '{start}', expected a chat completion ({why})"


def _no_such_number(name: str) -> Any:
    msg = f"{name} is no number of JSON"
    raise _WrongField(msg)


def _with_each_key_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for name, value in pairs:
        if name in found:
            msg = f"key '{printable(name, 40)}' twice"
            raise _WrongField(msg)
        found[name] = value
    return found


def _as(kind: type[T], value: Any, where: str) -> T:
    """The value, if it has this type."""
    if type(value) is not kind:
        words = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
        msg = f"{where} is {_shown(value)}, expected {words[kind]}"
        raise _WrongField(msg)
    return value  # type: ignore[no-any-return]


def _shown(value: Any) -> str:
    """The value for a message: texts and numbers as they are, anything else by its kind."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"'{printable(value, 60)}'"
    if isinstance(value, int | float):
        return printable(repr(value) if isinstance(value, float) or abs(value) < 10**30 else "a huge number", 60)
    return "an object" if isinstance(value, dict) else "a list"


# ── fields ──────────────────────────────────────────────────────────────────────────────────────


def _answer(content: Any) -> Answer:
    choice = _first_choice(content)
    if choice is None:
        raise _WrongField("choices is empty")
    message = _as(dict, choice.get("message"), "choices[0].message")
    reason = choice.get("finish_reason")
    text = whole_text(message, is_cut=reason == "length")
    if reason not in ("stop", "length") or not isinstance(text, str):
        shown = "None" if text is None else _shown(text)
        why = "None" if reason is None else _shown(reason)
        msg = f"not a whole answer (finish_reason {why}, content {shown})"
        raise Malformed(msg)
    usage = content.get("usage")
    counts = {} if usage is None else _as(dict, usage, "usage")
    prompt, completion = (_count(counts, name) for name in ("prompt_tokens", "completion_tokens"))
    return Answer(_text(text, "content"), prompt, completion, reason == "length", reasoning_tokens(counts))


def _piece(content: Any) -> Piece:
    choice = _first_choice(content)
    if choice is None:
        return Piece("", is_last=False)  # an event about the usage alone
    delta, reason = choice.get("delta"), choice.get("finish_reason")
    text = _as(dict, delta, "choices[0].delta").get("content") if delta is not None else None
    if reason is not None:
        _as(str, reason, "choices[0].finish_reason")
    return Piece("" if text is None else _text(_as(str, text, "content"), "content"), is_last=reason is not None)


def _names(content: Any) -> tuple[str, ...]:
    listed = _as(list, _as(dict, content, "the reply").get("data"), "data")
    return tuple(_as(str, _as(dict, model, "a model").get("id"), "id") for model in listed[:MOST_NAMES])


def _error_message(content: Any) -> str:
    error = _as(dict, content, "the reply").get("error", content.get("message"))
    return _as(str, error.get("message") if isinstance(error, dict) else error, "error")


def _first_choice(content: Any) -> dict[str, Any] | None:
    choices = _as(list, _as(dict, content, "the reply").get("choices"), "choices")
    return _as(dict, choices[0], "choices[0]") if choices else None


def _count(counts: dict[str, Any], name: str) -> int:
    value = counts.get(name)
    number = 0 if value is None else _as(int, value, f"usage.{name}")
    if not 0 <= number <= MOST_TOKENS:
        msg = f"usage.{name} is {_shown(number)}, expected 0 to {MOST_TOKENS}"
        raise _WrongField(msg)
    return number


def _text(text: str, where: str) -> str:
    """The text without the secrets of this process, which a server may send back."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = f"{where} has half a character at {error.start}"
        raise _WrongField(msg) from error
    return scrubbed(text)
