"""A causal language model as this backend needs it: logits after chosen tokens, and a loss with its gradients."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engram_bench.backends.adapter_layout import Shapes
from engram_bench.backends.cpu.cache import PackCache, RowCache
from engram_bench.backends.cpu.lora import Lora
from engram_bench.backends.cpu.packing import Integers, TokenBatch
from engram_bench.errors import BackendError

Cache = PackCache | RowCache


class Network(Protocol):
    """Frozen base weights; an adapter is an argument, so both sides of a comparison share them."""

    shapes: Shapes
    """Module path of every linear layer inside the blocks → (outputs, inputs)."""
    device: str
    context_length: int

    def logits(self, batch: TokenBatch, rows: Integers, *, lora: Lora | None, cache: Cache | None = None) -> Tensor:
        """Logits (N, V) after the tokens at *rows* of the flattened batch, without gradients."""

    def loss_and_gradients(
        self, batch: TokenBatch, rows: Integers, labels: Integers, lora: Lora, scale: float
    ) -> float:
        """Sum of the losses (nats) of *labels* after *rows*; adds its gradients times *scale* to the adapter's."""

    def merged(self, lora: Lora) -> Network:
        """A network with the adapter in its weights; what is not adapted is shared with this one."""


def open_network(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Network:
    """The model of a Hugging Face *folder*.

    Raises:
        BackendError: transformers cannot load it, or it is no transformer with attention in every block.
    """
    return TransformersNetwork(folder, device=device, dtype=dtype)


class TransformersNetwork:
    """Any causal language model of transformers, with the adapter added by hooks on its linear layers."""

    def __init__(self, folder: Path, *, device: str, dtype: torch.dtype) -> None:
        self.device = device
        self.model = _load(folder, device, dtype)
        config = self.model.config.get_text_config()
        windows = [config.max_position_embeddings, getattr(config, "sliding_window", None)]
        # One mask serves every block, so no sequence may be longer than a sliding window.
        self.context_length = min(window for window in windows if window)
        self.shapes: Shapes = {
            name: (module.out_features, module.in_features)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and module is not self.model.get_output_embeddings()
        }
        self._lora: Lora | None = None
        self._add_hooks()

    def logits(self, batch: TokenBatch, rows: Integers, *, lora: Lora | None, cache: Cache | None = None) -> Tensor:
        """Logits (N, V) after the tokens at *rows* of the flattened batch, without gradients."""
        with torch.no_grad():
            return self._forward(batch, rows, lora, cache).float()

    def loss_and_gradients(
        self, batch: TokenBatch, rows: Integers, labels: Integers, lora: Lora, scale: float
    ) -> float:
        """Sum of the losses (nats) of *labels* after *rows*; adds its gradients times *scale* to the adapter's."""
        with torch.enable_grad():
            logits = self._forward(batch, rows, lora, None).float()  # (N, V)
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels).to(self.device), reduction="sum")
            torch.autograd.backward(loss * scale)
        return float(loss.detach())

    def merged(self, lora: Lora) -> Network:
        """A network with the adapter in its weights; what is not adapted is shared with this one."""
        adapted = {f"{name}.weight" for name in lora.a}
        shared = {id(value): value for name, value in self.model.named_parameters() if name not in adapted}
        shared |= {id(value): value for value in self.model.buffers()}
        fused = copy.copy(self)
        fused.model = copy.deepcopy(self.model, shared)
        for name in lora.a:
            weight = fused.model.get_submodule(name).weight
            weight.data += lora.delta(name).to(weight.dtype)
        for module in fused.model.modules():
            module._forward_hooks.clear()  # they would ask the unfused network for its adapter
        return fused

    def _forward(self, batch: TokenBatch, rows: Integers, lora: Lora | None, cache: Cache | None) -> Tensor:
        num_columns = batch.ids.shape[1]
        row_index, column_index = (torch.from_numpy(part) for part in divmod(rows, num_columns))
        columns, place = torch.unique(column_index, return_inverse=True)
        self._lora = lora
        try:
            output = self.model(
                input_ids=torch.from_numpy(batch.ids).to(self.device),
                position_ids=torch.from_numpy(batch.positions).to(self.device),
                attention_mask=torch.tensor(batch.mask, device=self.device)[:, None],  # (B, 1, T, P + T)
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=columns.to(self.device),
            )
        finally:
            self._lora = None
        logits: Tensor = output.logits[row_index.to(self.device), place.to(self.device)]  # (N, V)
        return logits

    def _add_hooks(self) -> None:
        def hook_of(name: str) -> Any:
            def add_update(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                lora = self._lora
                if lora is None or name not in lora.a:
                    return output
                update = inputs[0].float() @ lora.a[name].T @ lora.b[name].T
                return output + (lora.scales[name] * update).to(output.dtype)

            return add_update

        for name in self.shapes:
            self.model.get_submodule(name).register_forward_hook(hook_of(name))


def _load(folder: Path, device: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    config = _read_config(folder)
    kinds = set(config.get("layer_types") or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        msg = f"{folder}: blocks of type {', '.join(sorted(kinds))}, expected attention in every block"
        raise BackendError(msg)
    # SDPA in bfloat16 gives wrong text on CPU where rows have different masks (a test shows it).
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


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{folder}: expected a model folder with a readable config.json ({error})"
        raise BackendError(msg) from error
    return config
