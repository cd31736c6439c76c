"""The ``cpu`` backend: torch, trained by hand-packed batches, adapters in PEFT's layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.machine.capabilities import missing
from engram_bench.backends.machine.devices import installed_versions
from engram_bench.backends.torch.backend import DTYPES, TorchBackend
from engram_bench.backends.torch.heap import bound_primitives
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.opening import open_network
from engram_bench.backends.torch.operators import short_products
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
        remarks = _remarks(self._dtype, self._products)
        return DeviceInfo(
            backend=self.name,
            device=self._device,
            dtype=self._dtype,
            versions=installed_versions("torch", "transformers", "peft"),
            note="; ".join([f"{torch.get_num_threads()} threads, trains with {self._products} products", *remarks]),
        )

    def _open_network(self, model: Model) -> Network:
        dtype = DTYPES[self._dtype]
        return open_network(model.folder, device=self._device, dtype=dtype, lean=self._lean, presort=self._presort)

    def _training_settings(self) -> str:
        return f"{super()._training_settings()} {self._lean}"


def fast_products(dtype: str) -> str:
    """The dtype in which this processor multiplies matrices fastest, at least as exact as bfloat16."""
    return "bfloat16" if short_products().is_there else dtype


def _remarks(dtype: str, products: str) -> Iterator[str]:
    """What this machine lacks for training with *products*, and what serves in its place."""
    if "bfloat16" in (dtype, products) and not (able := short_products()).is_there:
        yield f"bfloat16 is slow here ({able.reason}): float32 is faster"
    for capability in missing():
        if capability.name == f"presort-{products}" or capability.name.endswith("-backward"):
            yield f"{capability.name} is missing ({capability.reason}): the plain way serves"
