"""Kinds of adapter: ``lora``, ``memory`` and ``both``. What follows from a kind is asked of its object alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from engram_bench.adapters.kind_names import split_kind
from engram_bench.adapters.manifest import PEFT_CONFIG
from engram_bench.errors import BackendError
from engram_bench.memory.both import both_recipe
from engram_bench.memory.config import DESCRIPTION_FILE, PRESETS, config_of, memory_recipe
from engram_bench.patterns.augment import AS_WRITTEN, Augmentation
from engram_bench.patterns.render import DEFAULT_AUGMENTATION
from engram_bench.records import Prompt, Recipe

if TYPE_CHECKING:
    from engram_bench.models import Model

HASHED_STEPS = 10
"""Steps at most of a memory with hashed tables: each runs every token of every example through nearly the whole model."""

Participation = Callable[[Prompt, str], list[bool]]
"""For each position that predicts a token of an answer to a prompt, whether the adapter changes what is computed there."""

T = TypeVar("T")


class RecipeSettings(Protocol):
    """Settings that a recipe is made of."""

    @property
    def steps(self) -> int:
        """Optimizer steps at most."""

    @property
    def seed(self) -> int:
        """Seed of everything random."""

    @property
    def checkpoints(self) -> int:
        """Checkpoints that a sweep asks for."""

    @property
    def sweep(self) -> bool:
        """Whether checkpoints are kept."""

    @property
    def load_in_4bit(self) -> bool:
        """Whether the base model's weights are quantized while a LoRA is trained."""


def _lora_recipe(settings: RecipeSettings, preset: str) -> Recipe:
    return Recipe(
        steps=settings.steps,
        seed=settings.seed,
        checkpoints=settings.checkpoints if settings.sweep else 0,
        options={"load_in_4bit": True} if settings.load_in_4bit else {},
    )


def _memory_recipe(settings: RecipeSettings, preset: str) -> Recipe:
    return memory_recipe(preset=preset or "exact", steps=settings.steps, seed=settings.seed)


def _both_recipe(settings: RecipeSettings, preset: str) -> Recipe:
    return both_recipe(preset=preset or "exact", steps=settings.steps, seed=settings.seed)


@dataclass(frozen=True, slots=True)
class AdapterKind:
    """What adapters of one kind have in common."""

    name: str
    """Name in a recipe, in ``--engram-kind`` and at the start of an adapter's name."""
    has_memory: bool
    """Whether the adapter's folder holds a memory."""
    has_lora: bool
    """Whether the adapter's folder holds a LoRA in PEFT's layout."""
    recipe: Callable[[RecipeSettings, str], Recipe]
    """Makes a recipe of the settings and a memory's preset; empty takes the default preset."""

    def augmentation(self, recipe: Recipe) -> Augmentation:
        """Which variants of the prompts an adapter of this *recipe* learns from.

        Raises:
            BackendError: An option of the recipe cannot be used.
        """
        if self.has_lora or config_of(recipe).needs_variants:
            return DEFAULT_AUGMENTATION
        return AS_WRITTEN

    def most_steps(self, preset: str) -> int | None:
        """Steps beyond which a comparison of variants does not train; None where the settings' steps are affordable."""
        config = PRESETS.get(preset)
        return HASHED_STEPS if config is not None and config.addressing == "hashed" and not self.has_lora else None

    def values_read(self, folder: Path, model: Model, stored: int) -> int:
        """Trained values that the prediction of one token reads, of the *stored* ones of the adapter in *folder*.

        All values of a LoRA are read, and of a memory's rows one per slot.

        Raises:
            AdapterError: The memory cannot be read, or belongs to another model.
        """
        if not self.has_memory:
            return stored
        from engram_bench.memory.usage import values_read

        return values_read(folder, model, stored)

    def participation(self, folder: Path, model: Model) -> Participation:
        """Where the adapter in *folder* takes part: a LoRA everywhere, a memory where it has a row.

        Raises:
            AdapterError: The memory cannot be read, or belongs to another model.
        """
        if not self.has_lora:
            from engram_bench.memory.usage import consulted

            return consulted(folder, model)

        def everywhere(prompt: Prompt, answer: str) -> list[bool]:
            ids, start = model.tokenizer.encode_example(prompt, answer)
            return [True] * (len(ids) - start)

        return everywhere


LORA = AdapterKind("lora", has_memory=False, has_lora=True, recipe=_lora_recipe)
MEMORY = AdapterKind("memory", has_memory=True, has_lora=False, recipe=_memory_recipe)
BOTH = AdapterKind("both", has_memory=True, has_lora=True, recipe=_both_recipe)
KINDS: Mapping[str, AdapterKind] = {kind.name: kind for kind in (LORA, MEMORY, BOTH)}


def requested_kind(text: str) -> tuple[AdapterKind, str]:
    """The kind and the preset in a text such as ``lora``, ``memory`` or ``both:nearest``; no preset is an empty one.

    Raises:
        ValueError: The text is none of these; the message says which are.
    """
    name, preset = split_kind(text)
    return KINDS[name], preset


def kind_of(recipe: Recipe) -> AdapterKind:
    """The kind that a recipe asks for.

    Raises:
        BackendError: There is no such kind.
    """
    return trained_as(recipe, {kind: kind for kind in KINDS.values()}, "")


def kind_in(folder: Path) -> AdapterKind:
    """The kind of the adapter in *folder*, by the files that are there; a LoRA where there are none."""
    if not (folder / DESCRIPTION_FILE).is_file():
        return LORA
    return BOTH if (folder / PEFT_CONFIG).exists() else MEMORY


def trained_as(recipe: Recipe, ways: Mapping[AdapterKind, T], backend: str) -> T:
    """What *ways* has for the recipe's kind: how the *backend* of this name trains it.

    Raises:
        BackendError: The backend does not train this kind; names those that it trains.
    """
    for kind, way in ways.items():
        if kind.name == recipe.kind:
            return way
    *first, last = [repr(kind.name) for kind in ways]
    known = f"{', '.join(first)} or {last}" if first else last
    whole = f" (all that the {backend} backend trains)" if backend else ""
    msg = f"recipe: kind is {recipe.kind!r}, expected {known}{whole}"
    raise BackendError(msg)
