"""A model of mlx-lm with separate hidden states and logits, and with adapters on copies that share the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_unflatten
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model

from engram_bench.adapters.layout import LoraUpdate, Updates, uniform
from engram_bench.adapters.targets import Shapes
from engram_bench.backends.common.halving import is_out_of_memory
from engram_bench.backends.mlx import kernels
from engram_bench.backends.mlx.kv_cache import PaddedKVCache
from engram_bench.errors import AdapterError, BackendError

Writes = Callable[[int, mx.array], mx.array]
"""Changes that a memory makes in one pass: ``writes(block, hidden)`` gives the hidden states (B, T, hidden) that enter a
block."""


class MlxNetwork:
    """A language model of mlx-lm, whose head computes logits of chosen tokens only.

    Args:
        module: Model of mlx-lm.
        packs: Whether the model's attention can split a packed row.
    """

    def __init__(self, module: nn.Module, *, packs: bool = False) -> None:
        self.module = module
        self.packs = packs
        """Whether attention can split a packed row."""
        self.num_layers = len(module.layers)
        self.shapes = linear_shapes(module)

    def pass_caches(self, prefix: Sequence[PaddedKVCache] | None = None) -> list[PaddedKVCache]:
        """A KV cache per block for one pass over padded rows, which follow *prefix* if given."""
        return [PaddedKVCache(prefix[layer] if prefix else None) for layer in range(self.num_layers)]

    def hidden(
        self, ids: mx.array, caches: Sequence[Any], writes: Writes | None = None, *, first_block: int = 0
    ) -> mx.array:
        """Last hidden states after the final norm, (B, T, hidden).

        Args:
            ids: Token ids, (B, T).
            caches: KV cache of each block.
            writes: Changes of a memory to the hidden states that enter each block.
            first_block: First block to compute; only with *writes*.
        """
        blocks = self.module.model
        if writes is not None:
            watched = [_Watched(block, index, writes) for index, block in enumerate(blocks.layers)]
            blocks = copy.copy(blocks)
            blocks["layers"] = watched[first_block:]
        states: mx.array = blocks(ids, list(caches))
        return states

    def logits(self, hidden: mx.array) -> mx.array:
        """Logits (..., V) in float32 of hidden states (..., hidden).

        The model runs with a stand-in for its blocks that returns *hidden*, so that soft caps and scales of an architecture
        are applied.
        """
        shell = copy.copy(self.module)
        shell["model"] = _Through(self.module.model)
        logits: mx.array = shell(hidden[None] if hidden.ndim == 2 else hidden, cache=None)  # (B, T, V)
        return (logits[0] if hidden.ndim == 2 else logits).astype(mx.float32)

    @property
    def is_quantized(self) -> bool:
        """Whether some weights have fewer bits than any data type."""
        return any(isinstance(part, nn.QuantizedLinear) for _, part in self.module.named_modules())

    @cached_property
    def plain_head(self) -> mx.array | None:
        """Weights (V, hidden) of the head; None if the logits differ from the product with these weights."""
        layer = self.module.get("lm_head") or self.module.model.get("embed_tokens")
        if not isinstance(layer, (nn.Linear, nn.Embedding)):
            return None
        weight: mx.array = layer.weight
        sample = mx.random.normal((2, weight.shape[-1]), key=mx.random.key(0)).astype(weight.dtype)
        whole, product = self.logits(sample), (sample @ weight.T).astype(mx.float32)
        return weight if bool(mx.allclose(whole, product, rtol=1e-2, atol=1e-2 * mx.abs(whole).max().item())) else None

    def with_adapter(self, updates: Updates, *, fused: bool = False) -> MlxNetwork:
        """A network with the adapter attached, or merged into its weights if *fused*; other weights are shared."""
        rank, scale, same = uniform(updates)
        module = attach(self.module, list(same), rank=rank, scale=scale)
        weights = []
        for name, update in same.items():
            weights.append((f"{name}.lora_a", mx.array(np.ascontiguousarray(update.a.T))))  # (in, r)
            weights.append((f"{name}.lora_b", mx.array(np.ascontiguousarray(update.b.T))))  # (r, out)
        module.load_weights(weights, strict=False)
        if fused:
            _fuse(module)
        mx.eval(module.parameters())
        return MlxNetwork(module, packs=self.packs)

    def with_folder(self, folder: Path, *, fused: bool = False) -> MlxNetwork:
        """A network with an adapter that mlx-lm saved and loads itself: LoRA, DoRA or full; unchanged weights are shared.

        Raises:
            AdapterError: mlx-lm refuses the adapter.
        """
        module = _copy(self.module)
        try:
            load_adapters(module, str(folder))
        except (KeyError, ValueError, AttributeError, TypeError, OSError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            said = " ".join(str(error).split())[:300]
            msg = f"{folder}: mlx-lm cannot load this adapter ({said}), expected one for this model"
            raise AdapterError(msg) from error
        module.freeze()
        module.eval()
        if fused:
            _fuse(module)
        mx.eval(module.parameters())
        return MlxNetwork(module, packs=self.packs)


def open_network(folder: Path, dtype: str, *, fast: bool = False) -> MlxNetwork:
    """The model in a folder of Hugging Face or mlx-lm, with its weights loaded and frozen.

    Args:
        folder: Folder with config and safetensors weights.
        dtype: Name of the data type of weights; quantized weights stay as they are.
        fast: Whether the CPU kernels of this package are installed, which packed passes need.

    Raises:
        BackendError: mlx-lm does not know the architecture, files are missing, or the model needs its own code.
    """
    try:
        module, _ = load_model(folder)
    except (ValueError, OSError, KeyError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        msg = f"{folder}: mlx-lm cannot load this model ({error})"
        raise BackendError(msg) from error
    if not isinstance(getattr(module, "model", None), nn.Module):
        msg = f"{folder}: mlx-lm's {type(module).__module__} has no separate head, expected model.model and a head"
        raise BackendError(msg)
    if not any(isinstance(part, nn.QuantizedLinear) for _, part in module.named_modules()):
        module.set_dtype(getattr(mx, dtype))
    module.freeze()
    mx.eval(module.parameters())
    has_window = getattr(getattr(module, "args", None), "sliding_window", None) is not None
    packs = fast and kernels.install(module) and not has_window
    return MlxNetwork(module, packs=packs)


def attach(module: nn.Module, names: Sequence[str], *, rank: int, scale: float, dropout: float = 0.0) -> nn.Module:
    """A copy of *module* that shares the weights and has LoRA layers of mlx-lm at *names*, the only trainable layers.

    A copy with *dropout* leaves out inputs of these layers while it is in the mode of training.
    """
    copied = _copy(module)
    config = {"rank": rank, "scale": scale, "dropout": dropout, "keys": set(names)}
    linear_to_lora_layers(copied, len(copied.layers), config)
    return copied


def lora_updates(module: nn.Module) -> dict[str, LoraUpdate]:
    """Values of the LoRA layers in a module, by path."""
    return {
        name: LoraUpdate(np.array(layer.lora_a, np.float32).T, np.array(layer.lora_b, np.float32).T, float(layer.scale))
        for name, layer in module.named_modules()
        if isinstance(layer, LoRALinear)
    }


def linear_shapes(module: nn.Module) -> Shapes:
    """Shape (outputs, inputs) of every linear layer inside the blocks, by path."""
    found = {}
    for name, layer in module.named_modules():
        if ".layers." in name and isinstance(layer, (nn.Linear, nn.QuantizedLinear)):
            outputs, inputs = layer.weight.shape
            if isinstance(layer, nn.QuantizedLinear):
                inputs = inputs * 32 // layer.bits
            found[name.removesuffix(".linear")] = (outputs, inputs)
    return found


class _Watched:
    """A block whose input a memory changes first."""

    def __init__(self, block: nn.Module, index: int, writes: Writes) -> None:
        self._block = block
        self._index = index
        self._writes = writes

    def __call__(self, hidden: mx.array, *args: Any, **kwargs: Any) -> Any:
        return self._block(self._writes(self._index, hidden), *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._block, name)


class _Through:
    """Stand-in for the blocks of a model: returns its input, and holds the embedding for a tied head."""

    def __init__(self, blocks: nn.Module) -> None:
        self.embed_tokens = blocks.get("embed_tokens")
        self.wte = blocks.get("wte")

    def __call__(self, hidden: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        return hidden


def _copy(part: Any) -> Any:
    """A copy of a tree of modules that shares all arrays."""
    if isinstance(part, nn.Module):
        twin = copy.copy(part)
        twin.__dict__.update({name: set(v) if isinstance(v, set) else v for name, v in part.__dict__.items()})
        for name, value in part.items():
            twin[name] = _copy(value)
        return twin
    if isinstance(part, list):
        return [_copy(value) for value in part]
    if isinstance(part, dict):
        return {name: _copy(value) for name, value in part.items()}
    return part


def _fuse(module: nn.Module) -> None:
    """Merge every LoRA or DoRA layer into its weight."""
    merged = [(name, layer.fuse()) for name, layer in module.named_modules() if hasattr(layer, "fuse")]
    module.update_modules(tree_unflatten(merged))
