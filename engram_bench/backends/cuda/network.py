"""A model of Unsloth with one LoRA slot: adapters are put into the slot for a pass, both sides share the base weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engram_bench.adapters.layout import Shapes
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.cuda import runtime
from engram_bench.backends.torch.general import TransformersLearner, context_length_of, linear_shapes
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Cache, Writes
from engram_bench.errors import BackendError

SLOT = "default"
"""PEFT's name of the adapter that ``get_peft_model`` makes."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What ``get_peft_model`` was asked for."""

    rank: int
    scale: float
    targets: tuple[str, ...]

    @classmethod
    def of(cls, lora: Lora) -> Slot:
        """The smallest slot that takes an adapter: PEFT knows one rank and scale, Unsloth one list of names."""
        return cls(
            rank=max(len(a) for a in lora.a.values()),
            scale=max(lora.scales.values()),
            targets=tuple(sorted({name.rpartition(".")[2] for name in lora.a})),
        )


class UnslothNetwork:
    """A model loaded by ``FastLanguageModel``.

    Unsloth's own forward pass on a GPU knows causal rows only; so there sequences are padded on the right and no mask is
    given. On the processor transformers' pass is in place and takes packed rows.

    Raises:
        BackendError: Unsloth cannot load it.
    """

    def __init__(self, folder: Path, *, load_in_4bit: bool = False, packing: bool = False) -> None:
        self._folder = folder
        self._load_in_4bit = load_in_4bit
        self._packing = packing
        self._model = load_model(folder, load_in_4bit=load_in_4bit)
        self.device = str(self._model.device)
        self.context_length = context_length_of(self._model)
        self.shapes: Shapes = linear_shapes(self._model)
        self._slot: Slot | None = None
        self._bound: Lora | None = None
        """The adapter in the slot."""

    def logits(
        self,
        batch: TokenBatch,
        rows: Integers,
        *,
        lora: Lora | None,
        cache: Cache | None = None,
        writes: Writes | None = None,
    ) -> Tensor:
        """Logits (N, V) after the tokens at *rows* of the flattened batch, without gradients."""
        with torch.no_grad():
            return self.forward(batch, rows, lora, cache, writes)

    def forward(
        self, batch: TokenBatch, rows: Integers, lora: Lora | None, cache: Cache | None, writes: Writes | None
    ) -> Tensor:
        """Float32 logits (N, V) after the tokens at *rows*, with a graph where gradients are on."""
        assert writes is None, "a memory gets a network of its own, Unsloth's has no place between blocks"
        assert cache is None, "Unsloth keeps keys and values itself"
        row_index, column_index = (torch.from_numpy(part).to(self.device) for part in divmod(rows, batch.ids.shape[1]))
        keywords: dict[str, Any] = {}
        if not runtime.is_accelerated():  # Unsloth's own pass gives the logits of all tokens
            columns, column_index = torch.unique(column_index, return_inverse=True)
            keywords["logits_to_keep"] = columns
        if self._packing:
            keywords["attention_mask"] = torch.tensor(batch.mask, device=self.device)[:, None]  # (B, 1, T, T)
            keywords["position_ids"] = torch.from_numpy(batch.positions).to(self.device)
        ids = torch.from_numpy(batch.ids).to(self.device)
        with self.adapted(lora) as model, self._precision():
            logits: Tensor = model(input_ids=ids, use_cache=False, **keywords).logits  # (B, T, V)
        return logits[row_index, column_index].float()

    def generate(self, lora: Lora | None, **keywords: Any) -> Tensor:
        """Token ids (B, prompt + new) by Unsloth's ``generate``."""
        with self.adapted(lora) as model, runtime.quiet():
            fast_language_model().for_inference(model)
            found: Tensor = model.generate(**keywords)
        return found

    def learner(self, lora: Lora, products: torch.dtype) -> TransformersLearner:
        """What trains *lora* here, in the network's own dtype."""
        with self.adapted(lora) as model:
            fast_language_model().for_training(model, use_gradient_checkpointing=False)
        return TransformersLearner(self, lora)

    def spare_memory(self, spares: bool) -> None:
        """Nothing here only speeds up answers."""

    def merged(self, lora: Lora) -> UnslothNetwork:
        """A network of its own with the adapter in its weights.

        Raises:
            BackendError: The weights are in 4 bits, which cannot hold the sum.
        """
        if self._load_in_4bit:
            raise BackendError("fused: the base weights are in 4 bits, expected to be without --engram-load-in-4bit")
        fused = copy.copy(self)
        fused._model, fused._slot, fused._bound = load_model(self._folder, load_in_4bit=False), None, None
        for name in lora.a:
            weight = fused._model.get_submodule(name).weight
            weight.data += lora.delta(name).to(weight.dtype)
        return fused

    # ── the slot ────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def adapted(self, lora: Lora | None) -> Iterator[Any]:
        """The model with this adapter in its slot; the bare model for None."""
        if lora is not None:
            self._bind(lora)
            yield self._model
        elif self._slot is not None:
            with self._model.disable_adapter():
                yield self._model
        else:
            yield self._model

    def _bind(self, lora: Lora) -> None:
        """Make the adapter's values the slot's parameters: what is trained is then *lora* itself."""
        slot = Slot.of(lora)
        if self._slot != slot:
            self._open_slot(slot)
        if self._bound is lora:
            return
        for name, layer in self._model.get_base_model().named_modules():
            if not hasattr(layer, "lora_A"):
                continue
            a, b = layer.lora_A[SLOT].weight, layer.lora_B[SLOT].weight
            a.data, b.data = _fitted(lora, name, slot) if name in lora.a else (torch.zeros_like(a), torch.zeros_like(b))
            trained = lora.gradient is not None and name in lora.a
            a.grad, b.grad = (lora.a[name].grad, lora.b[name].grad) if trained else (None, None)
        self._bound = lora

    def _open_slot(self, slot: Slot) -> None:
        if self._slot is not None:  # a model that was wrapped once is not unwrapped without traces
            self._model = load_model(self._folder, load_in_4bit=self._load_in_4bit)
        with runtime.quiet():
            self._model = fast_language_model().get_peft_model(
                self._model,
                r=slot.rank,
                lora_alpha=slot.scale * slot.rank,
                target_modules=list(slot.targets),
                lora_dropout=0.0,
                bias="none",
                use_gradient_checkpointing=False,
                random_state=0,
                max_seq_length=self.context_length,
            )
        self._slot, self._bound = slot, None

    def _precision(self) -> Any:
        """Mixed precision as Unsloth's trainer runs it; nothing in float32."""
        dtype = self._model.get_input_embeddings().weight.dtype
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device.partition(":")[0], dtype)


def fast_language_model() -> Any:
    """Unsloth's front door."""
    return runtime.start().FastLanguageModel


def load_model(folder: Path, *, load_in_4bit: bool) -> Any:
    """The bare model, frozen, without dropout and with no generation settings of its own.

    Raises:
        BackendError: Unsloth cannot load it.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        with runtime.quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
            model, _ = fast_language_model().from_pretrained(
                str(folder),
                max_seq_length=config.max_position_embeddings,
                dtype=getattr(torch, runtime.compute_dtype()),
                load_in_4bit=load_in_4bit,
                local_files_only=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, ImportError) as error:
        msg = f"{folder}: Unsloth cannot load this model ({error})"
        raise BackendError(msg) from error
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    return model.requires_grad_(False).eval()


def _fitted(lora: Lora, name: str, slot: Slot) -> tuple[Tensor, Tensor]:
    """A and B of a layer in the slot's rank and scale: the adapter's own tensors where they agree."""
    a, b = lora.a[name].detach(), lora.b[name].detach()
    if len(a) == slot.rank and lora.scales[name] == slot.scale:
        return a, b
    missing = slot.rank - len(a)
    b = b * (lora.scales[name] / slot.scale)
    return nn.functional.pad(a, (0, 0, 0, missing)), nn.functional.pad(b, (0, missing))
