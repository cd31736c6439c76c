"""From training examples to a memory and a LoRA that answer together, in one of three orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.backends.common.training_loop import Trained, Trainer
from engram_bench.backends.torch.both_training import MemoryBeside
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.memory import load_memory
from engram_bench.backends.torch.memory_recipe import stored_memory, train_memory, untrained_memory
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.training import Companion, TorchLearner
from engram_bench.memory.both import parts_of
from engram_bench.memory.edit import remove
from engram_bench.memory.files import WEIGHTS_FILE, StoredMemory, save_memory
from engram_bench.memory.plan import keyed_examples
from engram_bench.memory.table import KeyedExample
from engram_bench.memory.training import Done
from engram_bench.records import Recipe, TrainingExample
from engram_bench.system.progress import Progress

if TYPE_CHECKING:
    from engram_bench.models import Model


@dataclass(frozen=True, slots=True)
class LoraTrained:
    """A LoRA and how it came to be."""

    lora: Lora
    done: Trained
    trainer: Trainer
    learner: TorchLearner
    num_examples: int

    def recall_of(self, lora: Lora | None, companion: Companion | None) -> float:
        """Share of the examples that these recall together; None is silent."""
        return float(self.recalled(range(self.num_examples), lora, companion).mean())

    def recalled(self, members: Sequence[int], lora: Lora | None, companion: Companion | None) -> NDArray[np.bool_]:
        """Per example of *members* whether these recall it together."""
        return self.trainer.recalled_by(members, partial(self.learner.guesses_of, lora=lora, companion=companion))


class LoraRun(Protocol):
    """Trains a LoRA beside a companion and leaves it in the folder."""

    def __call__(self, companion: Companion | None, identity: str) -> LoraTrained:
        """What it trained; *identity* is of what the companion is."""


@dataclass(frozen=True, slots=True)
class TrainedBoth:
    """A memory, a LoRA beside it, and how they came to be."""

    stored: StoredMemory
    lora: Lora
    of_lora: Trained
    recall: float | None
    """Of both together."""
    recall_alone: Mapping[str, float]
    """Of each part, the other silent."""
    of_memory: Done = field(default_factory=Done)
    """Empty where the memory had no steps of its own."""


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
) -> TrainedBoth:
    """A memory and a LoRA of the *examples*, both left in *folder*.

    Args:
        network: The frozen model.
        model: Whose tokenizer and identity the memory depends on.
        examples: What they are to know.
        recipe: Of kind ``both``.
        folder: Exists.
        train_lora: Trains a LoRA on the same examples and network.
        cached: Compute once what the memory alone cannot change.
        progress: Told of every step.

    Raises:
        BackendError: The recipe or an example cannot be used, or a loss is not finite.
    """
    how, of_memory = parts_of(recipe)
    facts = keyed_examples(model, examples, network.context_length)

    def memory_on(base: Network) -> tuple[StoredMemory, Done]:
        trained = train_memory(base, model, examples, of_memory, folder, cached=cached, progress=progress)
        return trained.stored, trained.done

    def beside(stored: StoredMemory, silence: float = 0.0) -> MemoryBeside:
        return MemoryBeside(load_memory(stored, network.device), facts, silence=silence, learns=False)

    def memory_first() -> TrainedBoth:
        stored, done = memory_on(network)
        companion = beside(stored, how.silence)
        written = sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
        is_silent = how.silence == 1  # then what it knows must not end the training of what is learned without it
        of_lora = train_lora(None if is_silent else companion, written)
        lora, recalled = of_lora.lora, of_lora.recalled(range(len(facts)), of_lora.lora, companion)
        of_memory_alone = done.recalls[-1]
        if clashing := clashes(of_lora, recalled, facts):
            for pattern in clashing[: len(stored.table.patterns) - 1]:
                stored = remove(stored, pattern)
            save_memory(folder, stored)
            companion = beside(stored)
            changed = [index for index, fact in enumerate(facts) if fact.pattern in clashing]
            recalled[changed] = of_lora.recalled(changed, lora, companion)
            of_memory_alone = of_lora.recall_of(None, companion)
        of_lora_alone = of_lora.done.recall if is_silent else of_lora.recall_of(lora, None)
        alone = {"memory": of_memory_alone, "lora": of_lora_alone or 0.0}
        return TrainedBoth(stored, lora, of_lora.done, float(recalled.mean()), alone, done)

    def lora_first() -> TrainedBoth:
        of_lora = train_lora(None, "")
        lora, recall_of = of_lora.lora, of_lora.recall_of
        stored, done = memory_on(network.merged(lora))
        alone = {"memory": recall_of(None, beside(stored)), "lora": recall_of(lora, None)}
        return TrainedBoth(stored, lora, of_lora.done, recall_of(lora, beside(stored)), alone, done)

    def joint() -> TrainedBoth:
        memory = untrained_memory(network, model, facts, of_memory)
        together = MemoryBeside(memory, facts, silence=how.silence, learns=True)
        of_lora = train_lora(together, "joint")
        stored = stored_memory(memory, model)
        save_memory(folder, stored)
        alone = {"memory": of_lora.recall_of(None, together), "lora": of_lora.recall_of(of_lora.lora, None)}
        return TrainedBoth(stored, of_lora.lora, of_lora.done, of_lora.done.recall, alone)

    orders: Mapping[str, Callable[[], TrainedBoth]] = {
        "memory-first": memory_first,
        "lora-first": lora_first,
        "joint": joint,
    }
    return orders[how.order]()


def clashes(of_lora: LoraTrained, recalled: NDArray[np.bool_], facts: Sequence[KeyedExample]) -> list[str]:
    """The patterns that the LoRA recalls alone and, as *recalled* says, not with the memory beside it.

    Each part was trained without the other: what both say of an answer can overshoot to a third token.
    """
    missed = np.flatnonzero(~recalled).tolist()
    alone = of_lora.recalled(missed, of_lora.lora, None) if missed else recalled[:0]
    return sorted({facts[index].pattern for index, knows in zip(missed, alone, strict=True) if knows})
