"""Causal language models of transformers, with the adapter added by hooks on the linear layers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from engram_bench.adapters.files import Floats
from engram_bench.adapters.targets import Shapes
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Anchor, KVCache, Writes
from engram_bench.errors import BackendError


class TransformersNetwork:
    """A model that transformers loads.

    Args:
        folder: Hugging Face folder of the model.
        config: Content of the folder's ``config.json``.
        device: Device of torch.
        dtype: Data type of weights and activations.

    Raises:
        BackendError: transformers cannot load the model, or a block has no attention.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], *, device: str, dtype: torch.dtype) -> None:
        self._take(load_transformers(folder, config, device, dtype))

    @classmethod
    def of(cls, model: Any) -> TransformersNetwork:
        """A network over a model that is loaded already."""
        network = cls.__new__(cls)
        network._take(model)
        return network

    def _take(self, model: Any) -> None:
        self.device = str(model.device)
        self.model = model
        self.context_length = context_length_of(self.model)
        self.shapes = linear_shapes(self.model)
        self._lora: Lora | None = None
        self._writes: Writes | None = None
        self._watch_blocks()
        for name in self.shapes:
            self.model.get_submodule(name).register_forward_hook(self._hook(name))

    def logits(
        self,
        batch: TokenBatch,
        rows: Integers,
        *,
        lora: Lora | None,
        cache: KVCache | None = None,
        writes: Writes | None = None,
    ) -> Tensor:
        """Logits (N, V) after the tokens at *rows* of the flattened batch, without gradients."""
        with torch.no_grad():
            return self.forward(batch, rows, lora, cache, writes)

    def forward(
        self, batch: TokenBatch, rows: Integers, lora: Lora | None, cache: KVCache | None, writes: Writes | None = None
    ) -> Tensor:
        """Logits (N, V) in float32 after the tokens at *rows*, with a graph where gradients are enabled."""
        row_index, column_index = (torch.from_numpy(part) for part in divmod(rows, batch.ids.shape[1]))
        columns, kept_index = torch.unique(column_index, return_inverse=True)
        self._lora, self._writes = lora, writes
        try:
            output = self.model(
                input_ids=torch.from_numpy(batch.ids).to(self.device),
                position_ids=torch.from_numpy(batch.positions).to(self.device),
                attention_mask=self._mask_bias(batch),
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=columns.to(self.device),
            )
        finally:
            self._lora = self._writes = None
        logits: Tensor = output.logits[row_index.to(self.device), kept_index.to(self.device)]  # (N, V)
        return logits.float()

    def gradients(self, lora: Lora, products: torch.dtype) -> TransformersGradients:
        """Losses and gradients of *lora* here, in the data type of the network."""
        return TransformersGradients(self, lora)

    def spare_memory(self, spares: bool) -> None:
        """No effect: this network keeps no copies that only speed up answers."""

    def merged(self, lora: Lora) -> TransformersNetwork:
        """A network with the adapter merged into its weights; weights without an adapter are shared with this network."""
        adapted = {f"{name}.weight" for name in lora.a}
        shared = {id(value): value for name, value in self.model.named_parameters() if name not in adapted}
        shared |= {id(value): value for value in self.model.buffers()}
        fused = copy.copy(self)
        fused.model = copy.deepcopy(self.model, shared)
        for name in lora.a:
            weight = fused.model.get_submodule(name).weight
            weight.data += lora.delta(name).to(weight.dtype)
        for name in self.shapes:
            fused.model.get_submodule(name)._forward_hooks.clear()  # the hooks belong to the unfused network
        fused._watch_blocks()
        return fused

    def _mask_bias(self, batch: TokenBatch) -> Tensor:
        """Numbers to add to attention scores, (B, 1, T, P + T). Eager attention would add a Boolean mask as 0 and 1."""
        hidden = torch.tensor(~batch.mask, device=self.device)[:, None]
        dtype = self.model.dtype
        return torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(hidden, torch.finfo(dtype).min)

    def _watch_blocks(self) -> None:
        """Let a memory write before each block of the decoder. The blocks are the longest list of modules in a model."""
        lists = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        longest: list[nn.Module] = max(map(list, lists), key=len, default=[])
        for index, block in enumerate(longest):
            block._forward_pre_hooks.clear()  # a copied block still has the hooks of the other network
            block.register_forward_pre_hook(self._write_hook(index), with_kwargs=True)

    def _write_hook(self, index: int) -> Any:
        def write(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            if self._writes is None:
                return None
            hidden = inputs[0] if inputs else keywords["hidden_states"]  # (B, T, H)
            written = self._writes(index, hidden.flatten(0, 1)).view_as(hidden)
            return ((written, *inputs[1:]), keywords) if inputs else (inputs, keywords | {"hidden_states": written})

        return write

    def _hook(self, name: str) -> Any:
        def add_update(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            lora = self._lora
            if lora is None or name not in lora.a:
                return output
            x = inputs[0].float()
            if lora.dropout is not None:
                x = x * lora.dropout.factor(name, x.shape[-1]).view_as(x)
            update = x @ lora.a[name].T @ lora.b[name].T
            return output + (lora.scales[name] * update).to(output.dtype)

        return add_update


class Differentiable(Protocol):
    """A network whose logits can carry a graph."""

    def forward(
        self, batch: TokenBatch, rows: Integers, lora: Lora | None, cache: KVCache | None, writes: Writes | None
    ) -> Tensor:
        """Logits (N, V) in float32 after the tokens at *rows*, with a graph where gradients are enabled."""


class TransformersGradients:
    """Losses and gradients of one adapter by autograd."""

    def __init__(self, network: Differentiable, lora: Lora) -> None:
        self._network = network
        self._lora = lora

    def loss_and_gradients(
        self,
        batch: TokenBatch,
        rows: Integers,
        labels: Integers,
        scale: float,
        anchor: Anchor | None = None,
        *,
        writes: Writes | None = None,
    ) -> Floats:
        """Losses (nats) of *labels* after *rows*, then the divergences of the anchor; the adapter's gradients grow."""
        with torch.enable_grad():
            every = rows if anchor is None else np.concatenate([rows, anchor.rows])
            logits = self._network.forward(batch, every, self._lora, None, writes)  # (N, V)
            targets = torch.from_numpy(labels).to(logits.device)
            losses = nn.functional.cross_entropy(logits[: len(labels)], targets, reduction="none")  # (N,)
            total = losses.sum() * scale
            if anchor is not None:
                bare = anchor.reference.float().log_softmax(-1)
                divergences = (bare.exp() * (bare - logits[len(labels) :].log_softmax(-1))).sum(-1)
                total = total + divergences.sum() * anchor.scale
                losses = torch.cat([losses, divergences])
            torch.autograd.backward(total)
        found: Floats = losses.detach().numpy(force=True)
        return found

    def reference(self, batch: TokenBatch, rows: Integers) -> Tensor:
        """Logits of the bare model after *rows*, (N, V), in half precision because they are kept during training."""
        with torch.no_grad():
            return self._network.forward(batch, rows, None, None, None).half()

    def losses(self, batch: TokenBatch, rows: Integers, labels: Integers, *, writes: Writes | None = None) -> Floats:
        """Losses (nats) of *labels* after *rows*, (N,), without gradients."""
        with torch.no_grad():
            logits = self._network.forward(batch, rows, self._lora, None, writes)  # (N, V)
        losses = nn.functional.cross_entropy(logits, torch.from_numpy(labels).to(logits.device), reduction="none")
        found: Floats = losses.numpy(force=True)
        return found


def context_length_of(model: Any) -> int:
    """Number of tokens that a model of transformers takes, at most its sliding window: one mask serves every block."""
    text = model.config.get_text_config()
    limits = [text.max_position_embeddings, getattr(text, "sliding_window", None)]
    return int(min(limit for limit in limits if limit))


def linear_shapes(model: Any) -> Shapes:
    """Shape (outputs, inputs) of every linear layer in a model of transformers except the head, by module path."""
    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }


def load_transformers(folder: Path, config: Mapping[str, Any], device: str, dtype: torch.dtype) -> Any:
    """The model that transformers loads, frozen.

    Raises:
        BackendError: transformers cannot load the model, or a block has no attention.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    other_kinds = set(config.get("layer_types") or ()) - {"full_attention", "sliding_attention"}
    if other_kinds:
        msg = f"{folder}: has blocks of type {', '.join(sorted(other_kinds))}, expected attention in every block"
        raise BackendError(msg)
    # SDPA in bfloat16 gives wrong text on CPU where rows are masked differently (a test shows it).
    attention = "sdpa" if dtype == torch.float32 else "eager"
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, attn_implementation=attention, local_files_only=True
            )
    except (OSError, ValueError, KeyError) as error:
        msg = f"{folder}: transformers cannot load this model ({error})"
        raise BackendError(msg) from error
    finally:
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    return model.requires_grad_(False).eval().to(device)
