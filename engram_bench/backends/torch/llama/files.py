"""Files of Llama-shaped models: which configs are of that shape, the sizes in a config, and the weights of a block."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from engram_bench.backends.torch.products import Multiply
from engram_bench.errors import BackendError

GROUPS: Mapping[str, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Linear layers of a block that have the same input and are computed as one product."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes in a config that the computation needs."""

    num_blocks: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    epsilon: float
    rope_theta: float
    context_length: int

    @property
    def group(self) -> int:
        """Number of query heads per key head."""
        return self.num_heads // self.num_kv_heads


@dataclass(frozen=True, slots=True)
class Block:
    """Weights of one block."""

    attention_norm: Tensor
    mlp_norm: Tensor
    weights: Mapping[str, Tensor]
    """Weight matrix of each group, (out, in)."""
    biases: Mapping[str, Tensor]
    """Bias of each group, (out,); groups without biases are absent."""
    multiply: Multiply
    """Product with a weight matrix of this block."""


def fits(config: Mapping[str, Any]) -> bool:
    """Whether :mod:`engram_bench.backends.torch.llama` can compute a model with this ``config.json``."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    plain_rope = rope.get("rope_type", rope.get("type", "default")) == "default" and not rope.get(
        "partial_rotary_factor"
    )
    return (
        config.get("model_type") in ("llama", "qwen2")
        and config.get("hidden_act", "silu") == "silu"
        and plain_rope
        and not config.get("attention_bias")
        and not config.get("mlp_bias")
        and not config.get("use_sliding_window")
        and not config.get("quantization_config")
        and set(config.get("layer_types") or ()) <= {"full_attention"}
    )


class Checkpoint:
    """Tensors of a folder's safetensors files by name, read as float32. A context manager that keeps the files open."""

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder
        self._device = device
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}

    def __enter__(self) -> Checkpoint:
        for path in sorted(self._folder.glob("*.safetensors")):
            file = self._stack.enter_context(safe_open(path, framework="pt", device=self._device))
            self._files |= dict.fromkeys(file.keys(), file)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, name: str) -> Tensor:
        """The tensor with this name, as float32.

        Raises:
            BackendError: No file holds a tensor with this name.
        """
        if name not in self._files:
            msg = f"{self._folder}: no tensor {name!r} in its safetensors files"
            raise BackendError(msg)
        tensor: Tensor = self._files[name].get_tensor(name).float()
        return tensor.clone()  # a view would keep the pages of the mapped file in memory beside this copy

    def __contains__(self, name: str) -> bool:
        return name in self._files


def read_block(tensor: Checkpoint, index: int, multiply: Multiply) -> Block:
    """Weights of block *index*, counted from 0, with the layers of each group joined."""
    prefix = f"model.layers.{index}"
    weights, biases = {}, {}
    for group, names in GROUPS.items():
        weights[group] = torch.cat([tensor(f"{prefix}.{name}.weight") for name in names])
        if f"{prefix}.{names[0]}.bias" in tensor:
            biases[group] = torch.cat([tensor(f"{prefix}.{name}.bias") for name in names])
    return Block(
        attention_norm=tensor(f"{prefix}.input_layernorm.weight"),
        mlp_norm=tensor(f"{prefix}.post_attention_layernorm.weight"),
        weights=weights,
        biases=biases,
        multiply=multiply,
    )


def read_sizes(config: Mapping[str, Any]) -> Sizes:
    """Sizes in a ``config.json``; missing ones are Llama's defaults."""
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return Sizes(
        num_blocks=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        epsilon=config.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        context_length=config["max_position_embeddings"],
    )
