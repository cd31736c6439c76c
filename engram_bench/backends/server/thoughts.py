"""Reasoning that a server keeps apart from the content of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIELDS = ("reasoning_content", "reasoning")
"""Keys of a message with what the model thought aloud: vLLM, SGLang and llama.cpp; newer vLLM and Ollama."""


def whole_text(message: Mapping[str, Any], *, is_cut: bool) -> Any:
    """The content of a message with the server's own reasoning before it, between the usual marks.

    Reasoning without content in a message that is cut has no end. Other values than text come back as they are.
    """
    content = message.get("content")
    reasoning = next((text for key in FIELDS if isinstance(text := message.get(key), str) and text.strip()), "")
    if not reasoning or not (content is None or isinstance(content, str)):
        return content
    return f"<think>{reasoning}" if is_cut and not content else f"<think>{reasoning}</think>\n\n{content or ''}"


def reasoning_tokens(usage: Mapping[str, Any]) -> int:
    """Number of the reasoning's tokens as the server counts them; 0 where it does not."""
    details = usage.get("completion_tokens_details")
    count = details.get("reasoning_tokens") if isinstance(details, Mapping) else 0
    return count if isinstance(count, int) and count > 0 else 0
