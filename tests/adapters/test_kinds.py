"""What follows from an adapter's kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from engram_bench.adapters.kind_names import NAMES, WITH_PRESET
from engram_bench.adapters.kinds import (
    BOTH,
    KINDS,
    LORA,
    MEMORY,
    AdapterKind,
    kind_in,
    kind_of,
    requested_kind,
    trained_as,
)
from engram_bench.errors import BackendError
from engram_bench.memory.config import memory_recipe
from engram_bench.patterns.augment import AS_WRITTEN
from engram_bench.patterns.render import DEFAULT_AUGMENTATION
from engram_bench.records import Recipe


@dataclass(frozen=True)
class Wanted:
    steps: int = 7
    seed: int = 3
    checkpoints: int = 4
    sweep: bool = False
    load_in_4bit: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("text", "kind", "preset"),
    [
        ("lora", LORA, ""),
        ("memory", MEMORY, ""),
        ("both", BOTH, ""),
        ("memory:nearest", MEMORY, "nearest"),
        ("both:exact", BOTH, "exact"),
    ],
)
def test_a_kind_may_be_followed_by_a_memorys_preset(text: str, kind: AdapterKind, preset: str) -> None:
    assert requested_kind(text) == (kind, preset)


@pytest.mark.parametrize("text", ["", "prompt", "lora:exact", "memory:", "Memory"])
def test_other_texts_are_refused_with_the_kinds_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="lora, memory, both, memory:PRESET or both:PRESET"):
        requested_kind(text)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kinds_recipe_is_of_that_kind_and_has_the_settings(kind: AdapterKind) -> None:
    recipe = kind.recipe(Wanted(), "")

    assert kind_of(recipe) is kind
    assert (recipe.kind, recipe.steps, recipe.seed, recipe.checkpoints) == (kind.name, 7, 3, 0)
    assert recipe.options.get("preset") == (None if kind is LORA else "exact")


def test_only_a_lora_keeps_checkpoints_and_loads_in_4_bit() -> None:
    wanted = Wanted(sweep=True, load_in_4bit=True)

    assert (LORA.recipe(wanted, "").checkpoints, LORA.recipe(wanted, "").options) == (4, {"load_in_4bit": True})
    assert (MEMORY.recipe(wanted, "").checkpoints, BOTH.recipe(wanted, "").checkpoints) == (0, 0)


def test_a_memory_that_reads_wordings_as_their_question_learns_prompts_as_written() -> None:
    recipe = memory_recipe(steps=1, seed=0)

    assert MEMORY.augmentation(recipe) is AS_WRITTEN
    assert MEMORY.augmentation(replace(recipe, options={"preset": "paper-small"})) is DEFAULT_AUGMENTATION
    assert BOTH.augmentation(replace(recipe, kind="both")) is DEFAULT_AUGMENTATION
    assert LORA.augmentation(Recipe()) is DEFAULT_AUGMENTATION


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], LORA),
        (["memory.json", "memory.safetensors"], MEMORY),
        (["memory.json", "adapter_config.json"], BOTH),
        ([], LORA),
    ],
    ids=["lora", "memory", "both", "nothing"],
)
def test_the_files_of_a_folder_tell_the_kind(tmp_path: Path, files: list[str], kind: AdapterKind) -> None:
    for name in files:
        (tmp_path / name).touch()

    assert kind_in(tmp_path) is kind


@pytest.mark.parametrize(
    ("kind", "preset", "steps"),
    [(MEMORY, "paper-small", 10), (MEMORY, "exact", None), (MEMORY, "", None), (BOTH, "paper-small", None)],
)
def test_a_memory_with_hashed_tables_takes_few_steps_in_a_comparison(
    kind: AdapterKind, preset: str, steps: int | None
) -> None:
    assert kind.most_steps(preset) == steps


def test_a_backend_names_the_kinds_that_it_trains() -> None:
    ways = {LORA: "a way", MEMORY: "another"}

    assert trained_as(Recipe(kind="memory"), ways, "mlx") == "another"
    with pytest.raises(
        BackendError, match=r"kind is 'both', expected 'lora' or 'memory' \(all that the mlx backend trains\)"
    ):
        trained_as(Recipe(kind="both"), ways, "mlx")


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(BackendError, match="recipe: kind is 'prompt', expected 'lora', 'memory' or 'both'"):
        kind_of(Recipe(kind="prompt"))


def test_every_kind_has_a_name_that_options_know_and_presets_belong_to_memories() -> None:
    assert list(KINDS) == list(NAMES)
    assert [name for name, kind in KINDS.items() if kind.has_memory] == list(WITH_PRESET)
