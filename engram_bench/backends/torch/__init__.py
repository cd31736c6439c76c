"""The ``cpu`` backend: torch, trained by hand-packed batches, adapters in PEFT's layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.machine.capabilities import Capability
from engram_bench.backends.machine.devices import installed_versions
from engram_bench.backends.torch.backend import DTYPES, TorchBackend
from engram_bench.backends.torch.heap import bound_primitives
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.opening import open_network
from engram_bench.backends.torch.operators import backward_operators, presorts, short_products
from engram_bench.records import DeviceInfo

if TYPE_CHECKING:
    from engram_bench.models import Model


class CpuBackend(TorchBackend):
    """Trains and answers with torch.

    Args:
        packing: Put several sequences in one row (else: padded batches).
        drafts: Verify draft answers in the reading pass (else: decode every token).
        prefix_cache: Compute the prompts' common prefix once a call.
        eviction: Let finished rows make room for waiting ones (else: decode a batch until its last row ends).
        curriculum: Train mostly on what is not known yet (else: on every example as often).
        activation_cache: Compute once what a memory cannot change (else: every pass anew).
        max_batch_tokens: Bound of rows x length of a decoding batch, and of the tokens of a training pass.
        threads: For torch; None leaves its setting alone.
        device: ``cpu`` or any torch device.
        dtype: Of weights and activations, ``float32`` or ``bfloat16``.
        products: Of the factors of training's large products; sums, weights and all else stay in *dtype*. ``auto`` is
            bfloat16 where the processor multiplies it twice as fast; recall was the same, 141 of 143 after 100 steps.
        lean: Use our own forward and backward pass where it covers the architecture (else: transformers).
        presort: There, answer and train from copies of the weights in the order of the fastest products.
    """

    name = "cpu"

    def __init__(
        self,
        *,
        packing: bool = True,
        drafts: bool = True,
        prefix_cache: bool = True,
        eviction: bool = True,
        curriculum: bool = True,
        activation_cache: bool = True,
        max_batch_tokens: int = 8192,
        threads: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        products: str = "auto",
        lean: bool = True,
        presort: bool = True,
    ) -> None:
        bound_primitives()
        super().__init__(
            DecodingPlan(
                packing=packing, prefix_cache=prefix_cache, eviction=eviction, max_batch_tokens=max_batch_tokens
            ),
            drafts=drafts,
            curriculum=curriculum,
            activation_cache=activation_cache,
            products=fast_products(dtype) if products == "auto" else products,
        )
        self._device = device
        self._dtype = dtype
        self._lean = lean
        self._presort = presort
        if threads is not None:
            torch.set_num_threads(threads)

    def device(self) -> DeviceInfo:
        """Where this backend runs, with the versions of the libraries it uses and what the machine lacks for them."""
        works = f"{torch.get_num_threads()} threads, trains with {self._products} products"
        return DeviceInfo(
            backend=self.name,
            device=self._device,
            dtype=self._dtype,
            versions=installed_versions("torch", "transformers", "peft"),
            note="; ".join([works, *self._slow(), *map(_in_words, self._lacking())]),
        )

    def remarks(self) -> list[str]:
        """What was asked for and is slow here, and what a usual torch on a usual machine would have."""
        unusual = [able for able in self._lacking() if able != presorts(torch.float32)]
        return [*self._slow(), *map(_in_words, unusual)]

    def _slow(self) -> Iterator[str]:
        if self._device == "cpu" and "bfloat16" in (self._dtype, self._products):
            able = short_products()
            if not able.is_there:
                yield f"bfloat16 is slow here ({able.reason}): float32 is faster"

    def _lacking(self) -> list[Capability]:
        """What the machine lacks of what our own passes use."""
        if self._device != "cpu" or self._dtype != "float32" or not self._lean:
            return []
        sorted_dtypes = dict.fromkeys((torch.float32, DTYPES[self._products])) if self._presort else ()
        return [able for able in (*map(presorts, sorted_dtypes), *backward_operators()) if not able.is_there]

    def _open_network(self, model: Model) -> Network:
        dtype = DTYPES[self._dtype]
        return open_network(model.folder, device=self._device, dtype=dtype, lean=self._lean, presort=self._presort)

    def _training_settings(self) -> str:
        return f"{super()._training_settings()} {self._lean}"


def fast_products(dtype: str) -> str:
    """The dtype in which this processor multiplies matrices fastest, at least as exact as bfloat16."""
    return "bfloat16" if short_products().is_there else dtype


def _in_words(able: Capability) -> str:
    return f"{able.name} is missing ({able.reason}): a plain computation takes its place"
