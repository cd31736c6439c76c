"""A model in a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engram_bench.errors import ModelError
from engram_bench.models.chat import ChatTokenizer
from engram_bench.models.folder import read_json

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")


@dataclass(frozen=True)
class Model:
    """A folder of weights with its identity. Files are read on demand."""

    reference: str
    """Reference as the user wrote it."""
    folder: Path
    """Absolute path of the folder with ``config.json``, ``tokenizer.json`` and ``*.safetensors``."""
    fingerprint: str
    """SHA-256 (hex) over config and weights, independent of the folder's path."""
    notes: str = ""
    """Size, context length, data type and memory of a preset; empty for other references."""

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        """Tokenizer of the model with its chat template."""
        return ChatTokenizer(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of ``config.json``. The text part of a multimodal model's config is merged into the top level."""
        config = read_json(self.folder / "config.json")
        text = config.get("text_config")
        return {**config, **(text if isinstance(text, dict) else {})}

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and answer together.

        Raises:
            ModelError: The config names no context length.
        """
        lengths = [self.config[key] for key in _CONTEXT_KEYS if type(self.config.get(key)) is int]
        if not lengths or lengths[0] < 1:
            found = f"a context length of {lengths[0]}" if lengths else "no context length"
            msg = f"{self.folder / 'config.json'}: {found}, expected one of {', '.join(_CONTEXT_KEYS)}"
            raise ModelError(msg)
        return int(lengths[0])
