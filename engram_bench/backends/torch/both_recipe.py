"""The training of a memory and a LoRA that answer together, in one of three orders."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.training_loop import Trainer
from engram_bench.backends.torch.both_training import FrozenLayers, LearningLayers, MemoryBeside
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.memory_training import TorchMemoryEngine
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.training import Companion, TorchLearner
from engram_bench.memory.both import parts_of
from engram_bench.memory.edit import remove
from engram_bench.memory.files import WEIGHTS_FILE, StoredMemory, save_memory
from engram_bench.memory.plan import keyed_examples, untrained_memory
from engram_bench.memory.recipe import TrainedMemory, train_memory
from engram_bench.memory.table import KeyedExample
from engram_bench.records import Recipe, TrainingExample
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.progress import Progress
from engram_bench.system.reading import sha256_of

if TYPE_CHECKING:
    from engram_bench.models import Model


@dataclass(frozen=True, slots=True)
class TrainedLora:
    """A LoRA, how its training went, and the means to ask what it recalls."""

    lora: Lora
    log: TrainingLog
    trainer: Trainer
    learner: TorchLearner

    def recall_of(self, lora: Lora | None, companion: Companion | None) -> float:
        """Share of the examples that these two recall together; None is silent."""
        return float(self.recalled(range(self.log.examples), lora, companion).mean())

    def recalled(self, members: Sequence[int], lora: Lora | None, companion: Companion | None) -> NDArray[np.bool_]:
        """Mask of the *members* that these two recall together."""
        return self.trainer.recalled_by(members, partial(self.learner.guesses_of, lora=lora, companion=companion))


class LoraRun(Protocol):
    """Trains a LoRA beside a companion and leaves it in the folder."""

    def __call__(self, companion: Companion | None, identity: str) -> TrainedLora:
        """The trained LoRA; *identity* says what the companion is."""


def train_both(
    network: Network,
    model: Model,
    examples: Sequence[TrainingExample],
    recipe: Recipe,
    folder: Path,
    *,
    train_lora: LoraRun,
    cached: bool = True,
    progress: Progress,
) -> TrainingLog:
    """How a memory and a LoRA of the *examples* were trained, both left in *folder*.

    Args:
        network: Frozen model.
        model: Model whose tokenizer and identity the memory depends on.
        examples: Examples to be learned.
        recipe: Recipe of kind ``both``.
        folder: Folder that exists.
        train_lora: Function that trains a LoRA on the same examples and network.
        cached: Whether states that the memory alone cannot change are computed once.
        progress: Callable that receives every step.

    Raises:
        BackendError: The recipe or an example cannot be used, or a loss is not finite.
    """
    started = time.perf_counter()
    how, memory_recipe = parts_of(recipe)
    keyed = keyed_examples(model, examples, network.context_length)

    def memory_on(base: Network) -> TrainedMemory:
        engine = TorchMemoryEngine(base, cached)
        return train_memory(engine, model, examples, memory_recipe, folder, progress=progress)

    def beside(stored: StoredMemory, silence: float = 0.0) -> MemoryBeside:
        return MemoryBeside(stored, FrozenLayers(stored, network.device), keyed, silence=silence)

    def memory_first() -> TrainingLog:
        memory = memory_on(network)
        stored, companion = memory.stored, beside(memory.stored, how.silence)
        written = sha256_of(folder / WEIGHTS_FILE)
        is_silent = how.silence == 1  # then what it knows must not end the training of what is learned without it
        trained = train_lora(None if is_silent else companion, written)
        lora, recalled = trained.lora, trained.recalled(range(len(keyed)), trained.lora, companion)
        alone = {"memory": memory.log.recall or 0.0}
        if clashing := clashes(trained, recalled, keyed):
            for pattern in clashing[: len(stored.table.patterns) - 1]:
                stored = remove(stored, pattern)
            save_memory(folder, stored)
            companion = beside(stored)
            changed = [index for index, example in enumerate(keyed) if example.pattern in clashing]
            recalled[changed] = trained.recalled(changed, lora, companion)
            alone = {"memory": trained.recall_of(None, companion)}
        lora_alone = trained.log.recall if is_silent else trained.recall_of(lora, None)
        alone["lora"] = lora_alone or 0.0
        return _together(trained, replace(memory, stored=stored), float(recalled.mean()), alone)

    def lora_first() -> TrainingLog:
        trained = train_lora(None, "")
        lora, recall_of = trained.lora, trained.recall_of
        memory = memory_on(network.merged(lora))
        alone = {"memory": recall_of(None, beside(memory.stored)), "lora": recall_of(lora, None)}
        return _together(trained, memory, recall_of(lora, beside(memory.stored)), alone)

    def joint() -> TrainingLog:
        untrained = untrained_memory(model, keyed, memory_recipe, TorchMemoryEngine(network).scales)
        layers = LearningLayers(untrained, network)
        together = MemoryBeside(untrained, layers, keyed, silence=how.silence, drops=True)
        trained = train_lora(together, "joint")
        memory = TrainedMemory(layers.stored(), TrainingLog())
        save_memory(folder, memory.stored)
        alone = {"memory": trained.recall_of(None, together), "lora": trained.recall_of(trained.lora, None)}
        return _together(trained, memory, trained.log.recall, alone)

    orders: Mapping[str, Callable[[], TrainingLog]] = {
        "memory-first": memory_first,
        "lora-first": lora_first,
        "joint": joint,
    }
    log = orders[how.order]()
    log.seconds = time.perf_counter() - started
    return log


def clashes(trained: TrainedLora, recalled: NDArray[np.bool_], examples: Sequence[KeyedExample]) -> list[str]:
    """The patterns that the LoRA recalls alone and, as *recalled* says, not with the memory beside it.

    Each part was trained without the other: what both say of an answer can overshoot to a third token.
    """
    missed = np.flatnonzero(~recalled).tolist()
    alone = trained.recalled(missed, trained.lora, None) if missed else recalled[:0]
    return sorted({examples[index].pattern for index, knows in zip(missed, alone, strict=True) if knows})


def _together(
    trained: TrainedLora, memory: TrainedMemory, recall: float | None, recall_alone: dict[str, float]
) -> TrainingLog:
    """The log of both trainings: the LoRA's steps, and what both read."""
    log = trained.log
    return replace(
        log,
        tokens=log.tokens + memory.log.tokens,
        examples_seen=log.examples_seen + memory.log.examples_seen,
        recall=recall,
        recall_alone=recall_alone,
        parameters=log.parameters + memory.stored.parameters,
    )
