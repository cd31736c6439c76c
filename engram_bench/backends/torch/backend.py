"""The common part of backends that compute with torch: training, loading and answering over a :class:`Network`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from engram_bench.adapters.found import needs_peft
from engram_bench.adapters.kinds import BOTH, LORA, MEMORY, kind_in, trained_as
from engram_bench.backends.common.decoding import DecodingPlan
from engram_bench.backends.common.generating import TextGenerator, block_at, check_sequences
from engram_bench.backends.common.halving import in_memory
from engram_bench.backends.common.replay import ReplayedExamples, split
from engram_bench.backends.common.training_loop import Trainer
from engram_bench.backends.common.training_plan import identity_of, peak_memory_mb
from engram_bench.backends.machine.remarks import tell
from engram_bench.backends.torch.both_recipe import TrainedLora, train_both
from engram_bench.backends.torch.decoding import last_token_states
from engram_bench.backends.torch.generator import TorchGenerator
from engram_bench.backends.torch.lora import Lora, load_lora, new_lora
from engram_bench.backends.torch.memory import load_memory
from engram_bench.backends.torch.memory_training import TorchMemoryEngine
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.peft_generator import PeftGenerator
from engram_bench.backends.torch.peft_model import merged, open_peft
from engram_bench.backends.torch.training import PASS_TOKENS, Companion, TorchLearner
from engram_bench.backends.torch.transformers_network import TransformersNetwork, load_transformers
from engram_bench.memory.files import load_memory_files, save_memory
from engram_bench.memory.recipe import add_examples, train_memory
from engram_bench.models.encoding import encode_examples
from engram_bench.patterns.render import as_written
from engram_bench.records import DeviceInfo, Recipe, TrainingExample, TrainingRecord
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer, Model

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchBackend(ABC):
    """Trains and answers with torch; what loads and computes the model is the subclass's.

    Args:
        plan: Plan of packing and batches.
        drafts: Whether draft answers are verified in the prefill (else: every token is decoded).
        curriculum: Whether to train mostly on unknown examples (else: on every example equally often).
        activation_cache: Whether states that a memory cannot change are computed once (else: in every pass).
        products: Data type of the factors in training's large matrix products; all else stays in the network's.
    """

    name: str

    def __init__(
        self,
        plan: DecodingPlan,
        *,
        drafts: bool = True,
        curriculum: bool = True,
        activation_cache: bool = True,
        products: str = "float32",
    ) -> None:
        self._plan = plan
        self._drafts = drafts
        self._curriculum = curriculum
        self._activation_cache = activation_cache
        self._products = products
        self._network: Network | None = None
        self._fingerprint = ""

    @abstractmethod
    def device(self) -> DeviceInfo:
        """Where this backend runs, with the versions of the libraries it uses."""

    def remarks(self, dtype: str = "auto") -> list[str]:
        """Abilities that a training in *dtype* needs and this machine lacks or is slow at; reported when it begins."""
        return []

    @abstractmethod
    def _open_network(self, model: Model, dtype: str = "auto") -> Network:
        """The bare model, its weights read now in this data type; ``auto`` is that of the answers."""

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
            BackendError: There is no example, one exceeds the context, the loss is not finite, or memory ran out.
            AdapterError: The model has no layer of one of the recipe's targets.
        """
        ways = {LORA: self._train_lora, MEMORY: self._train_memory, BOTH: self._train_both}
        train = trained_as(recipe, ways, self.name)
        tell(self.remarks(recipe.dtype), progress)
        with in_memory(f"training a {recipe.kind} on {len(examples)} examples"):
            return train(model, examples, recipe, folder, progress)

    def _train_memory(
        self, model: Model, examples: Sequence[TrainingExample], recipe: Recipe, folder: Path, progress: Progress
    ) -> TrainingRecord:
        engine = TorchMemoryEngine(self._memory_network(model), self._activation_cache)
        return self._record(train_memory(engine, model, examples, recipe, folder, progress=progress).log)

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
        """Train the *examples* into a copy of a stored memory, left in *folder*; what was there stays to the bit.

        Raises:
            AdapterError: The adapter is no memory of this model.
            BackendError: A pattern or question is stored already, or the memory's rows are hashed.
        """
        tell(self.remarks(), progress)
        stored = load_memory_files(adapter, model)
        engine = TorchMemoryEngine(self._memory_network(model))
        trained = add_examples(engine, model, stored, examples, steps=steps, progress=progress)
        save_memory(folder, trained.stored)
        return self._record(trained.log)

    def _train_lora(
        self, model: Model, examples: Sequence[TrainingExample], recipe: Recipe, folder: Path, progress: Progress
    ) -> TrainingRecord:
        dtype = "" if recipe.dtype in ("auto", self.device().dtype.partition(",")[0]) else recipe.dtype
        network = self._open_network(model, dtype) if dtype else self._open(model)
        trained = self._run_lora(network, model, examples, recipe, folder, progress, None, "")
        return self._record(trained.log, products="" if dtype == "bfloat16" else self._products, dtype=dtype)

    def _train_both(
        self, model: Model, examples: Sequence[TrainingExample], recipe: Recipe, folder: Path, progress: Progress
    ) -> TrainingRecord:
        network = self._memory_network(model)
        log = train_both(
            network,
            model,
            split(examples, recipe)[0],
            recipe,
            folder,
            train_lora=partial(self._run_lora, network, model, examples, recipe, folder, progress),
            cached=self._activation_cache,
            progress=progress,
        )
        return self._record(log, products=self._products)

    def _run_lora(
        self,
        network: Network,
        model: Model,
        examples: Sequence[TrainingExample],
        recipe: Recipe,
        folder: Path,
        progress: Progress,
        companion: Companion | None,
        companion_identity: str,
    ) -> TrainedLora:
        learned, ordinary = split(examples, recipe)
        encoded = encode_examples(model, learned, network.context_length)
        bare = self._generator(network, None, model.tokenizer)
        every = ReplayedExamples(model, bare, encoded, ordinary, later=isinstance(bare, TorchGenerator))
        network.spare_memory(True)
        try:
            lora = new_lora(network.shapes, recipe, network.device)
            learner = TorchLearner(
                network,
                lora,
                every,
                recipe,
                packing=self._plan.packing,
                pad_id=model.tokenizer.pad_id,
                products=DTYPES[self._products],
                companion=companion,
            )
            trainer = Trainer(
                learner,
                encoded,
                recipe,
                required=as_written(learned),
                ordinary=every.ordinary,
                answer=every.answer,
                curriculum=self._curriculum,
                max_tokens=min(PASS_TOKENS, self._plan.max_batch_tokens),
            )
            settings = f"{self._training_settings()} {companion_identity}".rstrip()
            identity = identity_of(recipe, every, model.fingerprint, settings)
            log = trainer.run(folder, progress=progress, base=model.reference, identity=identity)
        finally:
            network.spare_memory(False)
        log.parameters = lora.values.numel()
        return TrainedLora(lora, log, trainer, learner)

    def _record(self, log: TrainingLog, *, products: str = "", dtype: str = "") -> TrainingRecord:
        """The record of a training with weights and factors of large products of these data types; empty: as in answers."""
        info = replace(self.device(), dtype=dtype) if dtype else self.device()
        if products not in ("", info.dtype):
            info = replace(info, dtype=f"{info.dtype}, {products} products")
        return log.record(replace(info, backend=self.name), peak_memory_mb=self._peak_memory_mb())

    def load(self, model: Model, adapter: Path | None, *, fused: bool = False) -> TextGenerator:
        """The model with the adapter in a folder, a LoRA in PEFT's layout, a memory or both; the bare model for None.

        All generators of a model share its base weights; *fused* copies the layers a LoRA adapts. A memory cannot be
        merged and stays attached. An adapter of PEFT that is more than plain LoRA is computed by PEFT.

        Raises:
            AdapterError: The folder has unknown target modules or tensors of other shapes, or a memory of another model.
        """
        if adapter is None:
            return self._generator(self._open(model), None, model.tokenizer)
        kind = kind_in(adapter)
        if not kind.has_memory and needs_peft(adapter):
            return self._load_peft(model, adapter, fused=fused)
        network = self._memory_network(model) if kind.has_memory else self._open(model)
        memory = load_memory(load_memory_files(adapter, model), network.device) if kind.has_memory else None
        lora = load_lora(adapter, network.shapes, network.device) if kind.has_lora else None
        if lora is not None and fused:
            network, lora = network.merged(lora), None
        if memory is None:
            return self._generator(network, lora, model.tokenizer)
        return TorchGenerator(network, lora, model.tokenizer, self._plan, drafts=self._drafts, memory=memory)

    def _load_peft(self, model: Model, adapter: Path, *, fused: bool) -> TextGenerator:
        """The model with an adapter that PEFT itself computes, on base weights of its own, which some kinds change."""
        device, dtype = self._placement()
        with in_memory(f"loading {model.reference} for PEFT"):
            base = load_transformers(model.folder, model.config, device, dtype)
            attached = open_peft(adapter, base)
        if not fused:
            return PeftGenerator(attached, model.tokenizer, max_batch_tokens=self._plan.max_batch_tokens)
        network = TransformersNetwork.of(merged(adapter, attached))
        return TorchGenerator(network, None, model.tokenizer, self._plan, drafts=self._drafts)

    @abstractmethod
    def _placement(self) -> tuple[str, torch.dtype]:
        """Device and data type of a model that PEFT computes.

        Raises:
            AdapterError: PEFT cannot compute with the session's weights.
        """

    def states(self, model: Model, sequences: Sequence[Sequence[int]], *, depth: float) -> NDArray[np.float32]:
        """Hidden states (N, H) of the bare model at the last token of each sequence, after this share of its blocks.

        Raises:
            BackendError: A sequence is empty or exceeds the context.
        """
        network = self._memory_network(model)
        check_sequences(sequences, network.context_length)
        block = block_at(depth, model.config["num_hidden_layers"])
        return last_token_states(network, sequences, block, self._plan, model.tokenizer.pad_id)

    def close(self) -> None:
        """Drop base weights. Safe to call twice."""
        self._network = None
        self._fingerprint = ""

    def _generator(self, network: Network, lora: Lora | None, tokenizer: ChatTokenizer) -> TextGenerator:
        return TorchGenerator(network, lora, tokenizer, self._plan, drafts=self._drafts)

    def _memory_network(self, model: Model) -> Network:
        """The bare model in a form that lets a memory write between its blocks."""
        return self._open(model)

    def _training_settings(self) -> str:
        """Everything besides recipe, examples and model that decides the last bit of a training."""
        info = self.device()
        return f"{self.name} {info.device} {info.dtype} {self._plan.packing} {self._curriculum} {self._products}"

    def _peak_memory_mb(self) -> float:
        return peak_memory_mb()

    def _open(self, model: Model) -> Network:
        if self._network is None or self._fingerprint != model.fingerprint:
            self.close()
            with in_memory(f"loading {model.reference}"):
                self._network = self._open_network(model)
            self._fingerprint = model.fingerprint
        return self._network
