"""How much of a stored memory an answer uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.memory.files import load_memory_files
from engram_bench.memory.query import Query, prompt_query

if TYPE_CHECKING:
    from engram_bench.models import Model
    from engram_bench.records import Prompt


def values_read(folder: Path, model: Model, stored: int) -> int:
    """Trained values that the prediction of one token reads: of the memory's rows one per slot, of all others each.

    Args:
        folder: Folder of an adapter with a memory.
        model: Model that the memory was trained on.
        stored: Trained values of the whole adapter.

    Raises:
        AdapterError: The memory cannot be read, or belongs to another model.
    """
    memory = load_memory_files(folder, model)
    config = memory.table.config
    rows = sum(layer.rows[1:].size for layer in memory.layers.values())
    return stored - rows + len(memory.layers) * config.slots * config.row_size


def consulted(folder: Path, model: Model) -> Callable[[Prompt, str], list[bool]]:
    """A function of a prompt and an answer: for each position that predicts a token of the answer, whether it has a row.

    Raises:
        AdapterError: The memory in *folder* cannot be read, or belongs to another model.
    """
    table, tokenizer = load_memory_files(folder, model).table, model.tokenizer

    def has_row(prompt: Prompt, answer: str) -> list[bool]:
        ids, start = tokenizer.encode_example(prompt, answer)
        query = Query(ids[:-1], prompt_query(tokenizer, prompt).content, start - 1)
        return [bool(row.any()) for row in table.rows([query], table.config.layers[0])]

    return has_row
