"""Training and answering with mlx-lm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.adapters.found import is_mlx
from engram_bench.adapters.kinds import LORA, MEMORY, kind_in, trained_as
from engram_bench.adapters.layout import check_fits, read_updates
from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.common.generating import block_at, check_sequences
from engram_bench.backends.common.halving import in_memory
from engram_bench.backends.common.replay import own_answers, split
from engram_bench.backends.common.training_loop import Trainer
from engram_bench.backends.common.training_plan import identity_of
from engram_bench.backends.machine.blas import describe, preload_blas
from engram_bench.backends.machine.devices import installed_versions, mlx_device, mlx_note
from engram_bench.backends.machine.remarks import tell
from engram_bench.backends.mlx import runtime
from engram_bench.backends.mlx.decoding import last_token_states
from engram_bench.backends.mlx.generator import MlxGenerator
from engram_bench.backends.mlx.memory import check_supported, load_memory
from engram_bench.backends.mlx.memory_training import MlxMemoryEngine
from engram_bench.backends.mlx.network import MlxNetwork, open_network
from engram_bench.backends.mlx.training import MlxLearner
from engram_bench.errors import BackendError, UnsupportedError
from engram_bench.memory.config import config_of
from engram_bench.memory.files import load_memory_files
from engram_bench.memory.recipe import train_memory
from engram_bench.models.encoding import encode_examples
from engram_bench.patterns.render import as_written
from engram_bench.records import DeviceInfo, Recipe, TrainingExample, TrainingRecord
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model


PREFILL_TOKENS = 1024
"""Most tokens of a prefill pass, filler included."""


class MlxBackend:
    """Trains and answers with mlx-lm; no torch is imported.

    Args:
        drafts: Whether draft answers are verified in the prefill (else: every token is decoded).
        prefix_cache: Whether the prompts' common prefix is computed once a call.
        eviction: Whether waiting rows replace finished ones (else: a batch is decoded until its last row ends).
        kernels: Whether the model uses our faster exp, silu and softmax on a CPU (else: mlx's own).
        packing: Whether several sequences share a row on a CPU (else: padded batches); needs *kernels*.
        curriculum: Whether to train mostly on unknown examples (else: on every example equally often).
        max_batch_tokens: Most rows x length of a decoding batch, and most tokens of a training pass.
        dtype: Data type of weights and products, ``float32``, ``bfloat16`` or ``float16``; empty takes the device's.
    """

    name = "mlx"

    def __init__(
        self,
        *,
        drafts: bool = True,
        prefix_cache: bool = True,
        eviction: bool = True,
        kernels: bool = True,
        packing: bool = True,
        curriculum: bool = True,
        max_batch_tokens: int = 8192,
        dtype: str = "",
    ) -> None:
        self._dtype = dtype or runtime.default_dtype()
        self._drafts = drafts
        self._prefix_cache = prefix_cache
        self._eviction = eviction
        self._kernels = kernels and not runtime.is_accelerated() and self._dtype == "float32"
        self._packing = packing
        self._curriculum = curriculum
        self._max_batch_tokens = max_batch_tokens
        self._network: MlxNetwork | None = None
        self._fingerprint = ""

    def device(self) -> DeviceInfo:
        """Where this backend runs, with the versions of the libraries it uses."""
        return DeviceInfo(
            backend=self.name,
            device=runtime.device_name(),
            dtype=self._dtype,
            versions=installed_versions("mlx", "mlx-lm"),
            note=mlx_device().note if runtime.is_accelerated() else self._processor_note(),
        )

    def remarks(self, dtype: str = "auto") -> list[str]:
        """Abilities that a training in *dtype* needs and the processor lacks or is slow at; reported when it begins."""
        if runtime.is_accelerated():
            return []
        unfused = runtime.fused_kernels().reason
        return [
            *self._slow(dtype),
            *([f"mlx fuses no kernels ({unfused}) and computes more slowly"] if unfused else []),
        ]

    def _slow(self, dtype: str = "auto") -> list[str]:
        dtype = self._dtype if dtype == "auto" else dtype
        slow = "" if dtype == "float32" else runtime.short_products(dtype).reason
        return [f"{dtype} is slow here ({slow}): float32 is faster"] if slow else []

    def _processor_note(self) -> str:
        note = mlx_note(describe(*preload_blas()), runtime.fused_kernels().reason)
        return "; ".join([note, *self._slow()])

    def train(
        self,
        model: Model,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        folder: Path,
        *,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Train an adapter and leave it in *folder* in PEFT's layout.

        Goes on from the state of an interrupted training with the same arguments.

        Raises:
            BackendError: There is no example, one exceeds the context, the loss is not finite, or memory ran out twice.
            AdapterError: The model has no layer of one of the recipe's targets.
        """
        train = trained_as(recipe, {LORA: self._train_lora, MEMORY: self._train_memory}, self.name)
        tell(self.remarks(recipe.dtype), progress)
        runtime.forget_peak()
        return train(model, examples, recipe, folder, progress)

    def _train_lora(
        self, model: Model, examples: Sequence[TrainingExample], recipe: Recipe, folder: Path, progress: Progress
    ) -> TrainingRecord:

        learned, ordinary = split(examples, recipe)
        encoded = encode_examples(model, learned, model.context_length)
        held = own_answers(model, self.load(model, None), ordinary)
        dtype = self._dtype if recipe.dtype == "auto" else recipe.dtype
        learner = MlxLearner(
            self._trainable(model, dtype),
            [*encoded, *held],
            recipe,
            pad_id=model.tokenizer.pad_id,
            packing=self._packing,
        )
        trainer = Trainer(
            learner,
            encoded,
            recipe,
            required=as_written(learned),
            ordinary=held,
            curriculum=self._curriculum,
            max_tokens=self._max_batch_tokens,
        )
        identity = identity_of(
            recipe,
            [*encoded, *held],
            model.fingerprint,
            f"mlx {runtime.device_name()} {dtype} {self._kernels} {self._packing} {self._curriculum}",
        )
        with in_memory(f"training a {recipe.kind} on {len(examples)} examples"):
            log = trainer.run(folder, progress=progress, base=model.reference, identity=identity)
        log.parameters = learner.num_parameters
        return log.record(replace(self.device(), dtype=dtype), peak_memory_mb=runtime.peak_mb())

    def _trainable(self, model: Model, dtype: str) -> MlxNetwork:
        """The bare model with weights of this data type, beside those that answer where these have another.

        Raises:
            BackendError: The weights are quantized, which gives them no such data type.
        """
        if dtype == self._dtype:
            return self._open(model)
        with in_memory(f"loading {model.reference}"):
            network = open_network(model.folder, dtype, fast=self._kernels and dtype == "float32")
        if network.is_quantized:
            msg = f"recipe: dtype is {dtype!r}, but the weights of {model.reference} are quantized, expected auto"
            raise BackendError(msg)
        return network

    def _train_memory(
        self, model: Model, examples: Sequence[TrainingExample], recipe: Recipe, folder: Path, progress: Progress
    ) -> TrainingRecord:

        check_supported(config_of(recipe))
        with in_memory(f"training a {recipe.kind} on {len(examples)} examples"):
            engine = MlxMemoryEngine(self._open(model), model.context_length, self._packing)
            trained = train_memory(engine, model, examples, recipe, folder, progress=progress)
        return trained.log.record(self.device(), peak_memory_mb=runtime.peak_mb())

    def extend_memory(
        self,
        model: Model,
        adapter: Path,
        examples: Sequence[TrainingExample],
        folder: Path,
        *,
        steps: int,
        progress: Progress = no_progress,
    ) -> TrainingRecord:
        """Raise an error, because mlx cannot extend a memory yet.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("backend 'mlx' cannot extend a memory, expected backend cpu or cuda")

    def load(self, model: Model, adapter: Path | None, *, fused: bool = False) -> MlxGenerator:
        """The model with the adapter of a folder of PEFT or mlx-lm; the bare model for None.

        All generators of a model share its base weights; *fused* copies the adapted layers.

        Raises:
            AdapterError: The folder has unknown target modules or tensors of other shapes.
        """
        network, memory = self._open(model), None
        kind = kind_in(adapter) if adapter is not None else None
        if adapter is not None and kind is not None and kind.has_memory:
            memory = load_memory(load_memory_files(adapter, model))
        if adapter is not None and kind is not None and kind.has_lora:
            if is_mlx(adapter):
                network = network.with_folder(adapter, fused=fused)
            else:
                updates = read_updates(adapter)
                check_fits(adapter, updates, network.shapes)
                network = network.with_adapter(updates, fused=fused)
        return MlxGenerator(
            network, model.tokenizer, model.context_length, self._plan(), drafts=self._drafts, memory=memory
        )

    def states(self, model: Model, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """Hidden states (N, H) of the bare model at the last token of each sequence, after this share of its blocks.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
        """
        network = self._open(model)
        check_sequences(sequences, model.context_length)
        block = block_at(depth, network.num_layers)
        return last_token_states(network, sequences, block, self._plan(), model.tokenizer.pad_id)

    def close(self) -> None:
        """Drop base weights. Safe to call twice."""
        self._network = None
        self._fingerprint = ""

    def _plan(self) -> DecodingPlan:

        return DecodingPlan(
            prefix_cache=self._prefix_cache,
            packing=self._packing,
            eviction=self._eviction,
            max_batch_tokens=self._max_batch_tokens,
            max_prefill_tokens=PREFILL_TOKENS,
        )

    def _open(self, model: Model) -> MlxNetwork:

        if self._network is None or self._fingerprint != model.fingerprint:
            self.close()
            with in_memory(f"loading {model.reference}"):
                self._network = open_network(model.folder, self._dtype, fast=self._kernels)
            self._fingerprint = model.fingerprint
        return self._network
