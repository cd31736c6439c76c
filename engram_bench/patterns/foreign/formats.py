"""The formats of training data: how a row is recognised, and the question and answer that it holds.

=============== ========================================================================= =====================
format          keys of a row                                                             known from
=============== ========================================================================= =====================
``chat``        ``messages``: role and content of each turn                               OpenAI, TRL, mlx-lm
``sharegpt``    ``conversations``: ``from`` and ``value`` of each turn                    ShareGPT, Axolotl
``alpaca``      ``instruction``, ``output``, perhaps ``input`` and ``system``             Alpaca, LLaMA-Factory
``pairs``       a column for the question and one for the answer, perhaps ``system``      CSV, TRL, mlx-lm
=============== ========================================================================= =====================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

FormatName = Literal["chat", "sharegpt", "alpaca", "pairs"]

PAIRS = (
    ("prompt", "completion"),
    ("question", "answer"),
    ("input", "output"),
    ("prompt", "response"),
    ("query", "response"),
    ("instruction", "response"),
)
"""Columns of question and answer that are known by their names, in order of preference."""
ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
"""Other names of roles → the usual one."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question with its answer."""

    input: str
    output: str
    system: str = ""
    category: str = ""


class LeftOut(Exception):  # no error: the row is counted
    """The row holds no single question with one answer in words; the message says what it holds."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of rows."""

    name: FormatName
    read: Callable[[Mapping[str, Any]], Exchange]
    """Gives the exchange of a row, or raises :class:`LeftOut`."""
    words: str
    """The format in words, as it is said to the user."""

    def exchange(self, row: Mapping[str, Any]) -> Exchange:
        """The question and the answer of a row.

        Raises:
            LeftOut: The row has none, has tools, or says that its answer is not to be given: ``label`` is false, as in data for
                KTO.
        """
        if row.get("tools") not in (None, "", "[]", []):
            raise LeftOut("tools")
        if row.get("label") is False or str(row.get("label")).lower() == "false":
            raise LeftOut("an answer that is not wanted (label: false)")
        return self.read(row)


def recognised(keys: Iterable[str], columns: Mapping[str, str] | None = None) -> Format | None:
    """The format of rows with these keys; None where none fits.

    Args:
        keys: Keys of the first row.
        columns: ``input``, ``output``, ``system`` or ``category`` → the column that holds it; None takes the known names.
    """
    known = set(keys)
    if columns:
        return _pairs({"input": columns["input"], "output": columns["output"], **columns})
    if "messages" in known:
        return Format("chat", _chat, "chat: turns with role and content")
    if "conversations" in known:
        return Format("sharegpt", _sharegpt, "ShareGPT: turns with from and value")
    if {"instruction", "output"} <= known:
        return Format("alpaca", _alpaca, "Alpaca: instruction, input and output")
    for question, answer in PAIRS:
        if {question, answer} <= known:
            named = {"input": question, "output": answer, "system": "system", "category": "category"}
            return _pairs({name: column for name, column in named.items() if column in known})
    return None


def _pairs(columns: Mapping[str, str]) -> Format:
    def read(row: Mapping[str, Any]) -> Exchange:
        if missing := [column for column in columns.values() if column not in row]:
            msg = f"no {missing[0]!r}"
            raise LeftOut(msg)
        return Exchange(**{name: _text(row[column], column) for name, column in columns.items()})

    return Format("pairs", read, f"pairs: {columns['input']!r} is the question and {columns['output']!r} the answer")


def _chat(row: Mapping[str, Any]) -> Exchange:
    return _conversation(row.get("messages"), "role", "content")


def _sharegpt(row: Mapping[str, Any]) -> Exchange:
    found = _conversation(row.get("conversations"), "from", "value")
    system = row.get("system")
    return Exchange(found.input, found.output, found.system or (_text(system, "system") if system else ""))


def _conversation(turns: Any, role_key: str, text_key: str) -> Exchange:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise LeftOut("no list of turns")
    roles = [ROLES.get(str(turn.get(role_key)).lower(), str(turn.get(role_key)).lower()) for turn in turns]
    if any(turn.get("tool_calls") or turn.get("function_call") for turn in turns):
        raise LeftOut("tool calls")
    if any(turn.get("weight") == 0 for turn in turns):
        raise LeftOut("an answer of weight 0")
    system = roles[0] == "system" if roles else False
    if roles[system:] != ["user", "assistant"]:
        is_longer = roles[system:].count("assistant") > 1
        raise LeftOut(
            "several turns" if is_longer else f"turns of {', '.join(roles) or 'nobody'}".replace("nobody", "none")
        )
    texts = [_text(turn.get(text_key), text_key) for turn in turns]
    return Exchange(texts[-2], texts[-1], texts[0] if system else "")


def _alpaca(row: Mapping[str, Any]) -> Exchange:
    if row.get("history"):
        raise LeftOut("several turns")
    instruction, context = _text(row.get("instruction"), "instruction"), row.get("input") or ""
    question = "\n".join(filter(None, (instruction, _text(context, "input") if context else "")))
    system = row.get("system") or ""
    return Exchange(question, _text(row.get("output"), "output"), _text(system, "system") if system else "")


def _text(value: Any, key: str) -> str:
    """The text of a value without spaces around it.

    Raises:
        LeftOut: There is none.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        msg = f"{key} is no text"
        raise LeftOut(msg)
    text = str(value).strip()
    if not text:
        msg = f"{key} is empty"
        raise LeftOut(msg)
    return text
