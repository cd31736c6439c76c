"""A model on this disk."""

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
    """A folder of weights with its identity; nothing is read before it is asked for."""

    reference: str
    """As the user wrote it."""
    folder: Path
    """Absolute; holds ``config.json``, ``tokenizer.json`` and ``*.safetensors``."""
    fingerprint: str
    """SHA-256 (hex) over config and weights: the same wherever the folder lies."""
    notes: str = ""
    """What the user of a preset should know: size, context, dtype, memory; empty for other references."""

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        """Its tokenizer with its chat template."""
        return ChatTokenizer(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Its ``config.json``; what a multimodal model says of its text part stands beside the rest."""
        config = read_json(self.folder / "config.json")
        return {**config, **config.get("text_config", {})}

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together that the model takes.

        Raises:
            ModelError: The config does not say.
        """
        lengths = [self.config[key] for key in _CONTEXT_KEYS if isinstance(self.config.get(key), int)]
        if not lengths:
            msg = f"{self.folder / 'config.json'}: no context length, expected one of {', '.join(_CONTEXT_KEYS)}"
            raise ModelError(msg)
        return int(lengths[0])
