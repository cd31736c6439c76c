"""Special tokens of a model by name, from the settings of its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT_TOKENS: Mapping[str, Mapping[str, str]] = {
    "Cohere": {
        "unk_token": "<UNK>",
        "bos_token": "<BOS_TOKEN>",
        "eos_token": "<|END_OF_TURN_TOKEN|>",
        "pad_token": "<PAD>",
        "cls_token": "<CLS>",
        "sep_token": "<SEP>",
        "mask_token": "<MASK_TOKEN>",
    },
    "GPT2": dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
    "GPTNeoX": {
        **dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
        "pad_token": "<|padding|>",
    },
    "Gemma": {
        "unk_token": "<unk>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    "Llama": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "Qwen2": dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>"),
}
"""Special tokens that transformers gives a class of tokenizers whose settings leave them out."""


def special_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by name, as ``{"eos_token": "<|im_end|>"}``. A file stores text, or an object with ``content``."""
    kind = str(settings.get("tokenizer_class") or "").removesuffix("Fast").removesuffix("Tokenizer")
    tokens = {**DEFAULT_TOKENS.get(kind, {}), **{name: each for name, each in settings.items() if _names_token(name)}}
    extra = settings.get("extra_special_tokens")
    tokens |= extra if isinstance(extra, dict) else {}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in tokens.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _names_token(name: str) -> bool:
    return name.endswith("_token")
