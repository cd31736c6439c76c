"""The ``cuda`` backend: Unsloth's models and LoRA on an NVIDIA GPU, adapters in PEFT's layout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.common.training_plan import peak_memory_mb
from engram_bench.backends.cuda import runtime
from engram_bench.backends.cuda.generator import UnslothGenerator
from engram_bench.backends.cuda.network import UnslothNetwork
from engram_bench.backends.machine.devices import cuda_device
from engram_bench.backends.torch.backend import TorchBackend
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.opening import open_network
from engram_bench.errors import AdapterError

if TYPE_CHECKING:
    from engram_bench.backends.common.generating import TextGenerator
    from engram_bench.backends.torch.lora import Lora
    from engram_bench.models import ChatTokenizer, Model
    from engram_bench.records import DeviceInfo


class UnslothBackend(TorchBackend):
    """Backend that trains and answers with Unsloth's ``FastLanguageModel``.

    Args:
        load_in_4bit: Whether the base weights are kept in 4 bits, which needs bitsandbytes and helps no small model.
        packing: Whether training rows are packed. Unsloth's attention on a GPU takes no packed rows, so packing works on the
            processor only; None packs there.
        curriculum: Whether training prefers examples that are not recalled yet; otherwise all examples are equally frequent.
        activation_cache: Whether states that a memory cannot change are computed once; otherwise in every pass.
        max_batch_tokens: Largest rows x length of a decoding batch, and most tokens of a training pass; None chooses 65,536
            on a GPU and 8,192 on the processor.

    Raises:
        BackendUnavailable: Unsloth cannot be imported, or finds no GPU.
    """

    name = "cuda"

    def __init__(
        self,
        *,
        load_in_4bit: bool = False,
        packing: bool | None = None,
        curriculum: bool = True,
        activation_cache: bool = True,
        max_batch_tokens: int | None = None,
    ) -> None:
        runtime.start()
        accelerated = runtime.is_accelerated()
        plan = DecodingPlan(
            packing=not accelerated and packing is not False,
            max_batch_tokens=max_batch_tokens or (65536 if accelerated else 8192),
        )
        super().__init__(plan, drafts=False, curriculum=curriculum, activation_cache=activation_cache)
        self._load_in_4bit = load_in_4bit
        self._plain: tuple[str, Network] | None = None
        """Fingerprint of a model, and a network of the model without Unsloth."""

    def device(self) -> DeviceInfo:
        """Device and data type of this backend, and the versions of its libraries, with a note on what the GPU lacks."""
        info = cuda_device(load_in_4bit=self._load_in_4bit, dtype=runtime.compute_dtype())
        if not runtime.is_accelerated() or runtime.bfloat16().is_there:
            return info
        return replace(info, note=f"{info.note}; no bfloat16 ({runtime.bfloat16().reason})".removeprefix("; "))

    def _open_network(self, model: Model, dtype: str = "auto") -> UnslothNetwork:
        return UnslothNetwork(model.folder, load_in_4bit=self._load_in_4bit, packing=self._plan.packing, dtype=dtype)

    def _generator(self, network: Network, lora: Lora | None, tokenizer: ChatTokenizer) -> TextGenerator:
        if not isinstance(network, UnslothNetwork):  # the network of a memory
            return super()._generator(network, lora, tokenizer)
        return UnslothGenerator(network, lora, tokenizer, self._plan)

    def _memory_network(self, model: Model) -> Network:
        """A network without Unsloth, whose fast decoding gives a memory no access between blocks."""
        if self._plain is None or self._plain[0] != model.fingerprint:
            device = "cuda" if runtime.is_accelerated() else "cpu"
            network = open_network(model.folder, device=device, dtype=torch.float32, lean=True)
            self._plain = (model.fingerprint, network)
        return self._plain[1]

    def _placement(self) -> tuple[str, torch.dtype]:
        if self._load_in_4bit:
            raise AdapterError("adapter: PEFT computes it beside full weights, expected no --engram-load-in-4bit")
        return "cuda" if runtime.is_accelerated() else "cpu", torch.float32

    def close(self) -> None:
        """Free the base weights. A second call has no effect."""
        super().close()
        self._plain = None

    def _peak_memory_mb(self) -> float:
        return runtime.peak_gpu_memory_mb() if runtime.is_accelerated() else peak_memory_mb()
