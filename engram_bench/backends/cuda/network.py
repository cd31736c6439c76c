"""A model of Unsloth with one slot for a LoRA. Each pass puts its adapter into the slot, so all share the base weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engram_bench.adapters.targets import Shapes
from engram_bench.backends.common.packing import Integers, TokenBatch
from engram_bench.backends.cuda import runtime
from engram_bench.backends.torch.dropout import Dropout
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import KVCache, Writes
from engram_bench.backends.torch.transformers_network import TransformersGradients, context_length_of, linear_shapes
from engram_bench.errors import BackendError

SLOT = "default"
"""PEFT's name of the adapter that ``get_peft_model`` makes."""
UNUSED_RATE = 0.5
"""A dropout that makes Unsloth keep PEFT's layers; its module is replaced."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Settings of the one LoRA that ``get_peft_model`` made."""

    rank: int
    scale: float
    targets: tuple[str, ...]
    has_dropout: bool = False
    """Whether the slot keeps the layers of PEFT, in place of Unsloth's faster ones, which know no dropout."""

    @classmethod
    def of(cls, lora: Lora) -> Slot:
        """The smallest slot that fits *lora*. A slot has one rank, one scale and one list of layer names."""
        return cls(
            rank=max(len(a) for a in lora.a.values()),
            scale=max(lora.scales.values()),
            targets=tuple(sorted({name.rpartition(".")[2] for name in lora.a})),
            has_dropout=lora.dropout_rate > 0,
        )


class UnslothNetwork:
    """A model that ``FastLanguageModel`` loads.

    Unsloth's own forward pass on a GPU takes causal rows only. Therefore sequences are padded on the right there, without a
    mask. On the processor Unsloth keeps transformers' forward pass, which takes packed rows.

    Args:
        folder: Hugging Face folder of the model.
        load_in_4bit: Whether the weights are kept in 4 bits.
        packing: Whether batches hold packed rows.
        dtype: Data type of the computation and of weights that are not in 4 bits; ``auto`` is the fastest one.

    Raises:
        BackendError: Unsloth cannot load the model.
    """

    def __init__(self, folder: Path, *, load_in_4bit: bool = False, packing: bool = False, dtype: str = "auto") -> None:
        self._folder = folder
        self._load_in_4bit = load_in_4bit
        self._packing = packing
        self._dtype = runtime.compute_dtype() if dtype == "auto" else dtype
        self._model = load_model(folder, load_in_4bit=load_in_4bit, dtype=self._dtype)
        self.device = str(self._model.device)
        self.context_length = context_length_of(self._model)
        self.shapes: Shapes = linear_shapes(self._model)
        self._slot: Slot | None = None
        self._bound: Lora | None = None
        """Adapter in the slot."""
        self._dropout: Dropout | None = None
        """What is left out of the inputs of the adapter in the present pass."""

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
        self, batch: TokenBatch, rows: Integers, lora: Lora | None, cache: KVCache | None, writes: Writes | None
    ) -> Tensor:
        """Logits (N, V) in float32 after the tokens at *rows*, with a graph where gradients are enabled."""
        assert writes is None, "a memory needs a network without Unsloth"
        assert cache is None, "Unsloth keeps its own KV cache"
        row_index, column_index = (torch.from_numpy(part).to(self.device) for part in divmod(rows, batch.ids.shape[1]))
        keywords: dict[str, Any] = {}
        if not runtime.is_accelerated():  # Unsloth's own pass always computes the logits of all tokens
            columns, column_index = torch.unique(column_index, return_inverse=True)
            keywords["logits_to_keep"] = columns
        if self._packing:
            keywords["attention_mask"] = torch.tensor(batch.mask, device=self.device)[:, None]  # (B, 1, T, T)
            keywords["position_ids"] = torch.from_numpy(batch.positions).to(self.device)
        ids = torch.from_numpy(batch.ids).to(self.device)
        self._dropout = lora.dropout if lora is not None else None
        with self.adapted(lora) as model, self._precision():
            logits: Tensor = model(input_ids=ids, use_cache=False, **keywords).logits  # (B, T, V)
        return logits[row_index, column_index].float()

    def generate(self, lora: Lora | None, **keywords: Any) -> Tensor:
        """Token ids (B, prompt + new) that Unsloth's ``generate`` returns for these keyword arguments."""
        with self.adapted(lora) as model, runtime.quiet():
            fast_language_model().for_inference(model)
            found: Tensor = model.generate(**keywords)
        return found

    def gradients(self, lora: Lora, products: torch.dtype) -> TransformersGradients:
        """Losses and gradients of *lora* here, in the data type of the network."""
        with self.adapted(lora) as model:
            fast_language_model().for_training(model, use_gradient_checkpointing=False)
        return TransformersGradients(self, lora)

    def spare_memory(self, spares: bool) -> None:
        """No effect: this network keeps no copies that only speed up answers."""

    def merged(self, lora: Lora) -> UnslothNetwork:
        """A separate network with the adapter merged into its weights.

        Raises:
            BackendError: The weights are in 4 bits, which are too few for merged values.
        """
        if self._load_in_4bit:
            raise BackendError("fused: the base weights have 4 bits, expected a session without --engram-load-in-4bit")
        fused = copy.copy(self)
        fused._model, fused._slot, fused._bound = (
            load_model(self._folder, load_in_4bit=False, dtype=self._dtype),
            None,
            None,
        )
        for name in lora.a:
            weight = fused._model.get_submodule(name).weight
            weight.data += lora.delta(name).to(weight.dtype)
        return fused

    # ── the slot ────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def adapted(self, lora: Lora | None) -> Iterator[Any]:
        """Context with the model that has this adapter in its slot, or with the bare model for None."""
        if lora is not None:
            self._bind(lora)
            yield self._model
        elif self._slot is not None:
            with self._model.disable_adapter():
                yield self._model
        else:
            yield self._model

    def _bind(self, lora: Lora) -> None:
        """Use the tensors of *lora* as the parameters of the slot, so that training changes *lora* itself."""
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
        if self._slot is not None:  # a wrapped model cannot be unwrapped completely
            self._model = load_model(self._folder, load_in_4bit=self._load_in_4bit, dtype=self._dtype)
        with runtime.quiet():
            self._model = fast_language_model().get_peft_model(
                self._model,
                r=slot.rank,
                lora_alpha=slot.scale * slot.rank,
                target_modules=list(slot.targets),
                lora_dropout=UNUSED_RATE if slot.has_dropout else 0.0,
                bias="none",
                use_gradient_checkpointing=False,
                random_state=0,
                max_seq_length=self.context_length,
            )
            if slot.has_dropout:
                self._watch_inputs()
        self._slot, self._bound = slot, None

    def _watch_inputs(self) -> None:
        """Replace the dropout of PEFT, which draws by position in a batch, with ours."""
        for name, layer in self._model.get_base_model().named_modules():
            if hasattr(layer, "lora_A"):
                layer.lora_dropout[SLOT] = _LeftOut(self, name)

    def _precision(self) -> Any:
        """Mixed precision as in Unsloth's trainer; float32 weights need none."""
        dtype = self._model.get_input_embeddings().weight.dtype
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device.partition(":")[0], dtype)


class _LeftOut(nn.Module):
    """The inputs of one layer's adapter, without what the present pass leaves out."""

    def __init__(self, network: UnslothNetwork, name: str) -> None:
        super().__init__()
        self._present: Callable[[], Dropout | None] = lambda: network._dropout
        self._name = name

    def forward(self, x: Tensor) -> Tensor:
        """The inputs (B, T, in) times their factors."""
        dropout = self._present()
        return x if dropout is None else x * dropout.factor(self._name, x.shape[-1]).view_as(x).to(x.dtype)


def fast_language_model() -> Any:
    """Unsloth's ``FastLanguageModel`` class."""
    return runtime.start().FastLanguageModel


def load_model(folder: Path, *, load_in_4bit: bool, dtype: str) -> Any:
    """The bare model, frozen, without dropout and without its own generation settings.

    Raises:
        BackendError: Unsloth cannot load the model.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        with runtime.quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
            model, _ = fast_language_model().from_pretrained(
                str(folder),
                max_seq_length=config.max_position_embeddings,
                dtype=getattr(torch, dtype),
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
    """Matrices A and B of a layer in rank and scale of the slot; the adapter's own tensors where both agree."""
    a, b = lora.a[name].detach(), lora.b[name].detach()
    if len(a) == slot.rank and lora.scales[name] == slot.scale:
        return a, b
    missing = slot.rank - len(a)
    b = b * (lora.scales[name] / slot.scale)
    return nn.functional.pad(a, (0, 0, 0, missing)), nn.functional.pad(b, (0, missing))
