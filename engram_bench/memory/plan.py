"""The start of a memory's training, whatever library computes: examples, a table, rows of zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engram_bench.memory.background import background_queries
from engram_bench.memory.compression import compressed_ids, word_parts
from engram_bench.memory.config import MemoryConfig, config_of
from engram_bench.memory.files import Layer, StoredMemory
from engram_bench.memory.query import Query
from engram_bench.memory.table import KeyedExample, RowTable, build_table
from engram_bench.models.encoding import encode_examples
from engram_bench.records import Recipe, TrainingExample

if TYPE_CHECKING:
    from engram_bench.models import Model

SCALE_EXAMPLES = 16
"""Number of examples that hidden states are measured on."""


def untrained_memory(
    model: Model,
    examples: Sequence[KeyedExample],
    recipe: Recipe,
    scales: Callable[[Sequence[KeyedExample], Sequence[int]], Mapping[int, float]],
) -> StoredMemory:
    """A memory with a row of zeros for every n-gram of the *examples* that leads to one answer.

    Args:
        model: Model whose tokenizer and identity the memory depends on.
        examples: Examples to be learned.
        recipe: Recipe of kind ``memory``.
        scales: Function that measures the median size of the hidden state's values where answers are predicted,
            before each block.

    Raises:
        BackendError: The recipe or an example cannot be used.
    """
    config = config_of(recipe)
    config = replace(config, layers=config.blocks(model.config["num_hidden_layers"]))
    tokenizer = model.tokenizer
    empty = RowTable(
        config,
        classes=compressed_ids(tokenizer) if config.compress or config.near else None,
        parts=word_parts(tokenizer) if config.near else None,
        vocabulary=tokenizer.vocab_size,
        pad=tokenizer.pad_id,
    )
    table = build_table(empty, examples, background=background_queries(tokenizer))
    some = examples[:: max(1, len(examples) // SCALE_EXAMPLES)]
    measured, hidden = scales(some, config.layers), model.config["hidden_size"]
    layers = {
        block: new_layer(config, table.num_rows(block), hidden, measured[block], block) for block in config.layers
    }
    return StoredMemory(table, layers, model.fingerprint, tokenizer.template_fingerprint)


def trained_examples(examples: Sequence[KeyedExample], config: MemoryConfig) -> list[KeyedExample]:
    """The examples that rows are trained on: some of each pattern where wordings are read as their pattern's prompt."""
    if not (config.near and config.ways):
        return list(examples)
    seen: Counter[str] = Counter()
    found = []
    for example in examples:
        seen[example.pattern] += 1
        if seen[example.pattern] <= config.ways:
            found.append(example)
    return found


def keyed_examples(model: Model, examples: Sequence[TrainingExample], context_length: int) -> list[KeyedExample]:
    """The examples as a memory sees them.

    Raises:
        BackendError: There is none, or one exceeds the context.
    """
    encoded = encode_examples(model, examples, context_length)
    return [
        KeyedExample(
            example.pattern_id or example.prompt.user,
            Query(tokens.ids[: tokens.answer_start], model.tokenizer.content_mask(example.prompt)),
            tokens.labels,
        )
        for example, tokens in zip(examples, encoded, strict=True)
    ]


def new_layer(config: MemoryConfig, num_rows: int, hidden: int, scale: float, block: int) -> Layer:
    """An untrained layer: rows are zero, projections random and without bias."""
    random = np.random.default_rng([config.seed, block])
    width = config.slots * config.row_size

    def projection() -> NDArray[np.float32]:
        return np.float32(config.row_size**-0.5) * random.standard_normal((width, hidden), dtype=np.float32)

    rows = np.zeros((num_rows, config.row_size), np.float32)
    value_projection = projection()
    gate = {}
    if config.gate != "none":
        ones = np.ones(hidden, np.float32)
        gate = {"key_projection": projection(), "query_norm": ones, "key_norm": ones.copy()}
    if config.kernel:
        gate |= {"conv_weight": np.zeros((config.kernel, hidden), np.float32), "conv_norm": np.ones(hidden, np.float32)}
    return Layer(rows, value_projection, scale, gate)
