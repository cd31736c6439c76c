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

if TYPE_CHECKING:
    from engram_bench.backends.common.generating import TextGenerator
    from engram_bench.backends.torch.lora import Lora
    from engram_bench.models import ChatTokenizer, Model
    from engram_bench.records import DeviceInfo


class UnslothBackend(TorchBackend):
    """Trains and answers through ``FastLanguageModel``.

    Args:
        load_in_4bit: Keep the base weights in 4 bits; needs bitsandbytes, and gains nothing for a small model.
        packing: Train on packed rows, which Unsloth's own attention does not take: on the processor only. None packs there.
        curriculum: Train mostly on what is not known yet (else: on every example as often).
        activation_cache: Compute once what a memory cannot change (else: every pass anew).
        max_batch_tokens: Bound of rows x length of a decoding batch, and of the tokens of a training pass.

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
        """Fingerprint of a model, and it without Unsloth."""

    def device(self) -> DeviceInfo:
        """Where this backend runs, with the versions of the libraries it uses and what the GPU lacks."""
        info = cuda_device(load_in_4bit=self._load_in_4bit, dtype=runtime.compute_dtype())
        if not runtime.is_accelerated() or runtime.bfloat16().is_there:
            return info
        return replace(info, note=f"{info.note}; no bfloat16 ({runtime.bfloat16().reason})".removeprefix("; "))

    def _open_network(self, model: Model) -> UnslothNetwork:
        return UnslothNetwork(model.folder, load_in_4bit=self._load_in_4bit, packing=self._plan.packing)

    def _generator(self, network: Network, lora: Lora | None, tokenizer: ChatTokenizer) -> TextGenerator:
        if not isinstance(network, UnslothNetwork):  # that of a memory
            return super()._generator(network, lora, tokenizer)
        return UnslothGenerator(network, lora, tokenizer, self._plan)

    def _memory_network(self, model: Model) -> Network:
        """Not Unsloth's: its fast decoding has no place between blocks where a memory could write."""
        if self._plain is None or self._plain[0] != model.fingerprint:
            device = "cuda" if runtime.is_accelerated() else "cpu"
            network = open_network(model.folder, device=device, dtype=torch.float32, lean=True)
            self._plain = (model.fingerprint, network)
        return self._plain[1]

    def close(self) -> None:
        """Drop base weights. Safe to call twice."""
        super().close()
        self._plain = None

    def _peak_memory_mb(self) -> float:
        return runtime.peak_gpu_memory_mb() if runtime.is_accelerated() else peak_memory_mb()
