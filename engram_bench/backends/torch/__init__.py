"""The ``cpu`` backend: torch with batches of this package's own packing, adapters in PEFT's layout."""

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
        packing: Whether several sequences share one row; otherwise batches are padded.
        drafts: Whether draft answers are checked in the prefill pass; otherwise every token is decoded.
        prefix_cache: Whether the common prefix of all prompts is computed once per call.
        eviction: Whether finished rows make room for waiting ones; otherwise a batch runs until its last row ends.
        curriculum: Whether training prefers examples that are not recalled yet; otherwise all examples are equally frequent.
        activation_cache: Whether states that a memory cannot change are computed once; otherwise in every pass.
        max_batch_tokens: Largest rows x length of a decoding batch, and most tokens of a training pass.
        threads: Number of threads of torch; None keeps torch's own setting.
        device: Device of torch, such as ``cpu``.
        dtype: Data type of weights and activations, ``float32`` or ``bfloat16``.
        products: Data type of the factors in training's large matrix products; all other values stay in *dtype*. The
            value ``auto`` is bfloat16 on processors that multiply bfloat16 faster than float32. Recall was the same with
            both: 141 of 143 after 100 steps.
        lean: Whether this package's own passes are used where they cover the architecture; otherwise transformers'.
        presort: Whether these passes use copies of the weights in the order of the fastest matrix products.
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
        """Device and library versions of this backend, with a note on abilities that the machine lacks."""
        works = f"{torch.get_num_threads()} threads, trains with {self._products} products"
        return DeviceInfo(
            backend=self.name,
            device=self._device,
            dtype=self._dtype,
            versions=installed_versions("torch", "transformers", "peft"),
            note="; ".join([works, *self._slow(), *map(_in_words, self._lacking())]),
        )

    def remarks(self, dtype: str = "auto") -> list[str]:
        """Requested abilities that are slow here, and abilities that torch usually has and that are missing."""
        unusual = [able for able in self._lacking() if able != presorts(torch.float32)]
        return [*self._slow(dtype), *map(_in_words, unusual)]

    def _slow(self, dtype: str = "auto") -> Iterator[str]:
        if self._device == "cpu" and "bfloat16" in (self._dtype, self._products, dtype):
            able = short_products()
            if not able.is_there:
                yield f"bfloat16 is slow here ({able.reason}): float32 is faster"

    def _lacking(self) -> list[Capability]:
        """What the machine lacks of what our own passes use."""
        if self._device != "cpu" or self._dtype != "float32" or not self._lean:
            return []
        sorted_dtypes = dict.fromkeys((torch.float32, DTYPES[self._products])) if self._presort else ()
        return [able for able in (*map(presorts, sorted_dtypes), *backward_operators()) if not able.is_there]

    def _open_network(self, model: Model, dtype: str = "auto") -> Network:
        return open_network(
            model.folder,
            device=self._device,
            dtype=DTYPES[self._dtype if dtype == "auto" else dtype],
            lean=self._lean,
            presort=self._presort,
        )

    def _placement(self) -> tuple[str, torch.dtype]:
        return self._device, DTYPES[self._dtype]

    def _training_settings(self) -> str:
        return f"{super()._training_settings()} {self._lean}"


def fast_products(dtype: str) -> str:
    """Name of the data type in which this processor multiplies matrices fastest: ``bfloat16``, or *dtype*."""
    return "bfloat16" if short_products().is_there else dtype


def _in_words(able: Capability) -> str:
    return f"{able.name} is missing ({able.reason}): a plain computation is used instead"
