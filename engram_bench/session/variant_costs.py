"""What an adapter of any kind costs at run time: how often the adapter takes part, and how many values it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters.layout import PEFT_CONFIG
from engram_bench.memory.files import is_memory, load_memory_files
from engram_bench.memory.reading import Reading, read_prompt
from engram_bench.records import CaseResult, Estimate
from engram_bench.scoring.variants import share
from engram_bench.session.route import Route

if TYPE_CHECKING:
    from engram_bench.models import Model


def fires(folder: Path, model: Model, controls: Sequence[CaseResult], route: Route | None) -> Estimate | None:
    """Share of positions that predict the bare model's answers to controls at which the adapter takes part.

    A LoRA takes part at every position of a question that reaches it, a memory at those where it has a row.

    Args:
        folder: The adapter's folder.
        model: The base model.
        controls: The baseline's results to controls.
        route: The way to decide which questions reach the adapter; None where every question does.
    """
    tokenizer = model.tokenizer
    has_lora = (folder / PEFT_CONFIG).exists()
    table = load_memory_files(folder, model).table if is_memory(folder) and not has_lora else None
    fired: list[bool] = []
    for row in controls:
        prompt = row.case.prompt
        ids, start = tokenizer.encode_example(prompt, row.completion.text)
        if route is not None and not route.router.decide([prompt])[0].is_known:
            fired += [False] * (len(ids) - start)
        elif table is None:
            fired += [True] * (len(ids) - start)
        else:
            reading = Reading(ids[:-1], read_prompt(tokenizer, prompt).content, start - 1)
            fired += [bool(row.any()) for row in table.rows([reading], table.config.layers[0])]
    return share(fired)


def touched(folder: Path, model: Model, stored: int) -> int:
    """Trained values that the prediction of one token reads, at most.

    All of a LoRA's *stored* values are read; of a memory's rows, one per slot.
    """
    if not is_memory(folder):
        return stored
    memory = load_memory_files(folder, model)
    config = memory.table.config
    rows = sum(layer.rows[1:].size for layer in memory.layers.values())
    return stored - rows + len(memory.layers) * config.slots * config.row_size
