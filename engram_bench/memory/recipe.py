"""The training of a memory from examples, whatever library computes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import BackendError
from engram_bench.memory.background import background_queries
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.files import StoredMemory, save_memory
from engram_bench.memory.plan import keyed_examples, trained_examples, untrained_memory
from engram_bench.memory.table import KeyedExample, RowTable, build_table
from engram_bench.memory.training import MemoryPasses, MemoryTrainer
from engram_bench.memory.values import Arrays, MemoryValues
from engram_bench.records import Recipe, TrainingExample
from engram_bench.records.training_log import TrainingLog
from engram_bench.system.progress import Progress

if TYPE_CHECKING:
    from engram_bench.models import Model


class MemoryEngine(Arrays, Protocol):
    """Everything that a backend supplies to the training of a memory on a frozen model."""

    @property
    def context_length(self) -> int:
        """Most tokens of an example."""

    def scales(self, examples: Sequence[KeyedExample], blocks: Sequence[int]) -> Mapping[int, float]:
        """Median size of the hidden state's values where the examples' answers are predicted, before each block."""

    def passes(
        self,
        examples: Sequence[KeyedExample],
        config: MemoryConfig,
        scales: Mapping[int, float],
        *,
        pad_id: int,
        progress: Progress,
    ) -> MemoryPasses:
        """Passes over the examples for a memory of this shape; what it cannot change may be computed now, once.

        Args:
            examples: Examples that passes will mean by their index.
            config: Shape of the memory.
            scales: Factor of the memory's projected rows, per block.
            pad_id: Token that fills padded batches up.
            progress: Callable that receives the progress of the first pass over the examples.
        """


@dataclass(frozen=True, slots=True)
class TrainedMemory:
    """A memory and how its training went."""

    stored: StoredMemory
    log: TrainingLog


def train_memory(
    engine: MemoryEngine,
    model: Model,
    examples: Sequence[TrainingExample],
    recipe: Recipe,
    folder: Path,
    *,
    progress: Progress,
) -> TrainedMemory:
    """A memory of the *examples*, left in *folder*.

    Args:
        engine: Engine that computes with the frozen model.
        model: Model whose tokenizer and identity the memory depends on.
        examples: Examples to be learned.
        recipe: Recipe of kind ``memory``.
        folder: Folder that exists.
        progress: Callable that receives every step.

    Raises:
        BackendError: The recipe or an example cannot be used, or the loss is not finite.
    """
    started = time.perf_counter()
    keyed = keyed_examples(model, examples, engine.context_length)
    untrained = untrained_memory(model, keyed, recipe, engine.scales)
    kept = trained_examples(keyed, untrained.table.config)
    trained = _trained(
        engine,
        model,
        untrained,
        kept,
        steps=recipe.steps,
        progress=progress,
        until_recall=recipe.stop_at_recall,
    )
    save_memory(folder, trained.stored)
    trained.log.seconds = time.perf_counter() - started
    return trained


def add_examples(
    engine: MemoryEngine,
    model: Model,
    stored: StoredMemory,
    examples: Sequence[TrainingExample],
    *,
    steps: int,
    progress: Progress,
) -> TrainedMemory:
    """The stored memory with the *examples* added: new rows are trained, all that was there stays to the bit.

    Raises:
        BackendError: The memory is hashed (a row belongs to many n-grams), a pattern is stored already, or a question
            has another answer there.
    """
    started = time.perf_counter()
    keyed = keyed_examples(model, examples, engine.context_length)
    _check_new(stored.table, keyed)
    grown, is_new = _with_rows(stored, keyed, model)
    trained = _trained(engine, model, grown, keyed, steps=steps, progress=progress, trainable=is_new)
    trained.log.seconds = time.perf_counter() - started
    return trained


def _trained(
    engine: MemoryEngine,
    model: Model,
    memory: StoredMemory,
    examples: Sequence[KeyedExample],
    *,
    steps: int,
    progress: Progress,
    until_recall: bool = True,
    trainable: NDArray[np.bool_] | None = None,
) -> TrainedMemory:
    scales = {block: layer.scale for block, layer in memory.layers.items()}
    pad_id = model.tokenizer.pad_id
    passes = engine.passes(examples, memory.table.config, scales, pad_id=pad_id, progress=progress)
    values = MemoryValues(memory, engine, trainable=trainable)
    trainer = MemoryTrainer(passes, values, memory.table, examples)
    log = trainer.run(steps, progress=progress, until_recall=until_recall)
    log.parameters = memory.parameters
    return TrainedMemory(values.stored(), log)


# ── adding ──────────────────────────────────────────────────────────────────────────────────────


def _check_new(table: RowTable, examples: Sequence[KeyedExample]) -> None:
    if table.config.addressing == "hashed":
        raise BackendError("memory: rows of hashed tables belong to many n-grams, expected exact addresses to add to")
    if known := sorted({example.pattern for example in examples} & set(table.patterns)):
        msg = f"memory: pattern {known[0]!r} is stored already, expected a new one (remove it first)"
        raise BackendError(msg)
    if not table.config.whole:
        return
    asked = replace(table, known=None).all_keys([example.query for example in examples])[:, -1]
    firsts = asked[np.cumsum([0] + [len(example.labels) for example in examples[:-1]])]
    for example, is_asked in zip(examples, np.isin(firsts, table.keys), strict=True):
        if is_asked:
            msg = f"memory: the question of {example.pattern!r} is stored already, expected a new one"
            raise BackendError(msg)


def _with_rows(
    stored: StoredMemory, examples: Sequence[KeyedExample], model: Model
) -> tuple[StoredMemory, NDArray[np.bool_]]:
    """The memory with rows of zeros for what the examples add, and for each row whether it is new."""
    table = stored.table
    empty = replace(table, patterns=(), owned=())
    grown = build_table(empty, examples, background=background_queries(model.tokenizer))
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
        owners = [grown.patterns.index(example.pattern) for example in examples]
        grown = replace(grown, known=table.known.with_questions([example.question for example in examples], owners))
    layers = {}
    for block, layer in stored.layers.items():
        rows = np.zeros((len(grown.keys) + 1, layer.rows.shape[1]), np.float32)
        rows[to] = layer.rows
        layers[block] = replace(layer, rows=rows)
    return replace(stored, table=grown, layers=layers), is_new
