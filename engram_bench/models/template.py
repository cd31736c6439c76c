"""Chat templates, which turn a prompt into the text that a model was trained to continue.

A template belongs to a downloaded model and cannot be trusted: it is rendered within bounds on time and memory
(:mod:`engram_bench.models.rendering`), with the settings of :mod:`engram_bench.models.template_worker`. As in transformers,
``tools`` and ``documents`` are None, the special tokens that the model names are texts, and all other variables, such as
``enable_thinking``, are undefined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from engram_bench.models.rendering import BoundedTemplate, TemplateError
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

_MARKER = "Qx7userZtext9"


class ChatTemplate:
    """Chat template of one model, checked to render the text of a user.

    Args:
        source: Jinja source of the template.
        special_tokens: Special tokens by name, which the template may use.

    Raises:
        TemplateError: The source is broken or unsafe, refuses a single user turn, or takes more time or memory than it may.
        ValueError: The rendered text lacks the user's text.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self._special_tokens = special_tokens
        self._template = BoundedTemplate(source)
        self.uses_date = "strftime_now" in source
        self.takes_system = self._shows_system()
        self.around(None)

    def render(self, prompt: Prompt) -> str:
        """Text of a prompt up to the answer. A system turn that the template does not take opens the user's turn."""
        return self._render(self._messages(prompt), add_generation_prompt=True)

    def render_many(self, prompts: Sequence[Prompt]) -> list[str]:
        """Texts of prompts as by :meth:`render`, in order, at a tenth of the time."""
        messages = map(self._messages, prompts)
        return self._template.render_many([self._variables(each, add_generation_prompt=True) for each in messages])

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
        except TemplateError:
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
        except TemplateError:
            return False

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return self._template.render(**self._variables(messages, add_generation_prompt=add_generation_prompt))

    def _variables(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> dict[str, Any]:
        return {
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self._special_tokens,
        }
