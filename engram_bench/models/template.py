"""Chat templates, which turn a prompt into the text that a model was trained to continue.

Templates are rendered with the Jinja settings, filters, tags and variables of transformers, in a sandbox: a template belongs
to a downloaded model and cannot be trusted. As in transformers, ``tools`` and ``documents`` are None, the special tokens that
the model names are texts, and all other variables, such as ``enable_thinking``, are undefined. Source of the conventions:
``transformers/utils/chat_template_utils.py``, version 5.17.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engram_bench.records import Prompt

FALLBACK = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n### Response:\\n' }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)
"""Template for models without one: the layout of Alpaca, which is common in training data.

The text ends with a newline, so that an answer needs no leading space. The end-of-text token ends the answer.
"""

FIXED_DATE = datetime(2024, 7, 26)
"""Date that templates get as today's date, which is Llama 3's default. A prompt must be the same in training and tests."""

_MARKER = "Qx7userZtext9"


class ChatTemplate:
    """Chat template of one model, checked to render the text of a user.

    Args:
        source: Jinja source of the template.
        special_tokens: Special tokens by name, which the template may use.

    Raises:
        jinja2.TemplateError: The source is broken or unsafe, or refuses a single user turn.
        ValueError: The rendered text lacks the user's text.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self._special_tokens = special_tokens
        self._template = _environment().from_string(source)
        self.uses_date = "strftime_now" in source
        self.takes_system = self._shows_system()
        self.around(None)

    def render(self, prompt: Prompt) -> str:
        """Text of a prompt up to the answer. A system turn that the template does not take opens the user's turn."""
        return self._render(self._messages(prompt), add_generation_prompt=True)

    @lru_cache(maxsize=256)  # noqa: B019  a template lives as long as its model
    def around(self, system: str | None) -> tuple[str, str]:
        """Text before and after the user's text, with this system prompt or without one."""
        before, found, after = self.render(Prompt(_MARKER, system)).partition(_MARKER)
        if not found:
            msg = "its output lacks the user's text"
            raise ValueError(msg)
        return before, after

    def after_answer(self) -> str:
        """Text that follows an answer in a conversation; empty if the template takes no assistant turn."""
        messages = [*self._messages(Prompt("?")), {"role": "assistant", "content": _MARKER}]
        try:
            return self._render(messages, add_generation_prompt=False).rpartition(_MARKER)[2]
        except (jinja2.TemplateError, TypeError, ValueError):
            return ""

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        if prompt.system is None:
            return [{"role": "user", "content": prompt.user}]
        if not self.takes_system:
            return [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
        return [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]

    def _shows_system(self) -> bool:
        messages = [{"role": "system", "content": _MARKER}, {"role": "user", "content": "?"}]
        try:
            return _MARKER in self._render(messages, add_generation_prompt=True)
        except (jinja2.TemplateError, TypeError, ValueError):
            return False

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return self._template.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._special_tokens,
        )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = FIXED_DATE.strftime
    return environment


class _GenerationTag(Extension):
    """Tag ``{% generation %}…{% endgeneration %}``, which marks the assistant's text for trainers; only its content counts.

    The content is a block of its own, as in transformers: what it sets is unset after it.
    """

    tags = {"generation"}  # noqa: RUF012  Jinja's interface

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as transformers writes it; Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
