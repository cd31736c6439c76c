"""From training examples to a stored memory: table, scale, rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from engram_bench.backends.common.packing import pack
from engram_bench.backends.torch.memory import TorchMemory, load_memory
from engram_bench.backends.torch.memory_passes import Example, Passes, open_passes
from engram_bench.backends.torch.memory_training import TorchMemoryLearner
from engram_bench.backends.torch.network import Network
from engram_bench.errors import BackendError
from engram_bench.memory.background import background_queries
from engram_bench.memory.files import StoredMemory, save_memory
from engram_bench.memory.plan import SCALE_EXAMPLES, keyed_examples, taught, untrained
from engram_bench.memory.table import KeyedExample, build_table
from engram_bench.memory.training import Done, MemoryTrainer
from engram_bench.records import Recipe, TrainingExample
from engram_bench.system.progress import Progress

if TYPE_CHECKING:
    from engram_bench.models import Model


@dataclass(frozen=True, slots=True)
class TrainedMemory:
    """A memory and how it came to be."""

    stored: StoredMemory
    done: Done
    num_examples: int
    """That it was trained at."""


def train_memory(
    network: Network,
    model: Model,
    examples: Sequence[TrainingExample],
    recipe: Recipe,
    folder: Path,
    *,
    progress: Progress,
    cached: bool = True,
) -> TrainedMemory:
    """A memory of the *examples*, left in *folder*.

    Args:
        network: The frozen model.
        model: Whose tokenizer and identity the memory depends on.
        examples: What it is to know.
        recipe: Of kind ``memory``.
        folder: Exists.
        progress: Told of every step.
        cached: Compute once what the memory cannot change; False is the plain way with the same result.

    Raises:
        BackendError: The recipe or an example cannot be used, or the loss is not finite.
    """
    facts = keyed_examples(model, examples, network.context_length)
    memory = untrained_memory(network, model, facts, recipe)
    facts = taught(facts, memory.table.config)
    passes = memory_passes(network, memory, facts, model.tokenizer.pad_id, progress, cached=cached)
    trainer = MemoryTrainer(TorchMemoryLearner(passes, memory), memory.table, facts)
    done = trainer.run(recipe.steps, progress=progress, until_recall=recipe.stop_at_recall)
    stored = stored_memory(memory, model)
    save_memory(folder, stored)
    return TrainedMemory(stored, done, len(facts))


def untrained_memory(network: Network, model: Model, facts: Sequence[KeyedExample], recipe: Recipe) -> TorchMemory:
    """A memory with a row for every n-gram of the *facts* that tells their answer, all of them zero.

    Raises:
        BackendError: The recipe or a fact cannot be used.
    """
    measure = partial(measured_scales, network, facts)
    return load_memory(untrained(model, facts, recipe, measure), network.device)


def stored_memory(memory: TorchMemory, model: Model) -> StoredMemory:
    """The memory as it is kept on disk, bound to its model."""
    layers = {block: layer.stored() for block, layer in memory.layers.items()}
    return StoredMemory(memory.table, layers, model.fingerprint, model.tokenizer.template_fingerprint)


def add_facts(
    network: Network,
    model: Model,
    stored: StoredMemory,
    examples: Sequence[TrainingExample],
    *,
    steps: int,
    progress: Progress,
) -> TrainedMemory:
    """The stored memory with the *examples* added: new rows are trained, all that was there stays to the bit.

    Raises:
        BackendError: The memory is hashed (its rows are everybody's), a pattern is stored already, or a question has
            another answer there.
    """
    table = stored.table
    facts = keyed_examples(model, examples, network.context_length)
    if table.config.addressing == "hashed":
        raise BackendError("memory: rows of hashed tables belong to many n-grams, expected exact addresses to add to")
    if known := sorted({fact.pattern for fact in facts} & set(table.patterns)):
        msg = f"memory: pattern {known[0]!r} is stored already, expected a new one (remove it first)"
        raise BackendError(msg)
    if table.config.whole:
        asked = replace(table, known=None).all_keys([fact.query for fact in facts])[:, -1]
        firsts = asked[np.cumsum([0] + [len(fact.labels) for fact in facts[:-1]])]
        for fact, is_asked in zip(facts, np.isin(firsts, table.keys), strict=True):
            if is_asked:
                msg = f"memory: the question of {fact.pattern!r} is stored already, expected a new one"
                raise BackendError(msg)
    empty = replace(table, patterns=(), owned=())
    grown = build_table(empty, facts, background=background_queries(model.tokenizer))
    moved = np.searchsorted(grown.keys, table.keys) + 1  # old row i + 1 → new row
    is_new = np.ones(len(grown.keys) + 1, dtype=np.bool_)
    is_new[[0, *moved]] = False
    to = np.concatenate([[0], moved])
    grown = replace(
        grown,
        patterns=(*table.patterns, *grown.patterns),
        owned=(*(to[rows] for rows in table.owned), *(rows[is_new[rows]] for rows in grown.owned)),
    )
    if table.known is not None:
        owners = [grown.patterns.index(fact.pattern) for fact in facts]
        grown = replace(grown, known=table.known.with_questions([fact.question for fact in facts], owners))
    layers = {}
    for block, layer in stored.layers.items():
        rows = np.zeros((len(grown.keys) + 1, layer.rows.shape[1]), np.float32)
        rows[to] = layer.rows
        layers[block] = replace(layer, rows=rows)
    memory = load_memory(replace(stored, table=grown, layers=layers), network.device)
    passes = memory_passes(network, memory, facts, model.tokenizer.pad_id, progress)
    learner = TorchMemoryLearner(passes, memory, trainable=dict.fromkeys(memory.layers, is_new))
    done = MemoryTrainer(learner, grown, facts).run(steps, progress=progress)
    kept = {block: layer.stored() for block, layer in memory.layers.items()}
    return TrainedMemory(replace(stored, table=grown, layers=kept), done, len(facts))


def memory_passes(
    network: Network,
    memory: TorchMemory,
    facts: Sequence[KeyedExample],
    pad_id: int,
    progress: Progress,
    *,
    cached: bool = True,
) -> Passes:
    """Passes over the facts for this memory's blocks and positions."""
    config = memory.table.config
    examples = []
    for fact in facts:
        predicts = len(fact.prompt.ids) - 1
        examples.append(Example(fact.query.ids, predicts if config.answers_only else 0, predicts))
    return open_passes(network, examples, block=min(config.layers), pad_id=pad_id, cached=cached, progress=progress)


def measured_scales(network: Network, facts: Sequence[KeyedExample], blocks: Sequence[int]) -> dict[int, float]:
    """Median size of the hidden state's values where answers are predicted, before each block."""
    some = facts[:: max(1, len(facts) // SCALE_EXAMPLES)]
    seen: dict[int, list[Tensor]] = {block: [] for block in blocks}
    for fact in some:
        query = fact.query

        def watch(block: int, hidden: Tensor, first: int = query.first) -> Tensor:
            if block in seen:
                seen[block].append(hidden[first:].abs().flatten().float())
            return hidden

        batch = pack([query.ids])
        network.logits(batch, batch.paths[0][-1:], lora=None, writes=watch)
    return {block: float(torch.cat(parts).median()) for block, parts in seen.items()}
