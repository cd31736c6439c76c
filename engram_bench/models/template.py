"""Chat templates: a prompt as the text a model was trained to continue.

Rendered as transformers does (same Jinja settings, filters and tags), in a sandbox: a template is part of a downloaded
model and not to be trusted. Source of the conventions: ``transformers/utils/chat_template_utils.py``, version 5.17.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
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
"""For models without a template: Alpaca's layout, seen in most training data. Ends in a newline, so that an answer
needs no leading space; the answer itself is ended by the end-of-text token."""

FIXED_DATE = datetime(2024, 7, 26)
"""What templates get as today's date (Llama 3's own default): a prompt must not change between training and tests."""

_MARKER = "Qx7userZtext9"


class ChatTemplate:
    """One model's template, checked to render a user's text.

    Raises:
        jinja2.TemplateError: The source is broken, unsafe, or refuses a single user turn.
        ValueError: The rendered text does not contain the user's.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self._special_tokens = special_tokens
        self._template = _environment().from_string(source)
        self.uses_date = "strftime_now" in source
        self.takes_system = self._shows_system()
        self.around(None)

    def render(self, prompt: Prompt) -> str:
        """The text up to where the answer begins. A system turn the template does not take opens the user turn."""
        return self._render(self._messages(prompt), add_generation_prompt=True)

    @lru_cache(maxsize=256)  # noqa: B019  a template lives as long as its model
    def around(self, system: str | None) -> tuple[str, str]:
        """What stands before and after any user's text under this system prompt."""
        before, found, after = self.render(Prompt(_MARKER, system)).partition(_MARKER)
        if not found:
            msg = "its output lacks the user's text"
            raise ValueError(msg)
        return before, after

    def after_answer(self) -> str:
        """What the template puts after an answer in a conversation; empty where it takes no assistant turn."""
        messages = [*self._messages(Prompt("?")), {"role": "assistant", "content": _MARKER}]
        try:
            return self._render(messages, add_generation_prompt=False).rpartition(_MARKER)[2]
        except jinja2.TemplateError:
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
        except jinja2.TemplateError:
            return False

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return self._template.render(
            messages=messages, add_generation_prompt=add_generation_prompt, **self._special_tokens
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
    """``{% generation %}…{% endgeneration %}`` marks assistant text for a trainer's mask; here it is its content."""

    tags = {"generation"}  # noqa: RUF012  Jinja's interface

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, **options: Any) -> str:
    """JSON as transformers writes it: Jinja's own filter escapes HTML."""
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
