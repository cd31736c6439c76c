"""Kinds of adapter: ``lora``, ``memory`` and ``both``. What follows from a kind is asked of its object alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engram_bench.adapters.found import PEFT_CONFIG
from engram_bench.adapters.kind_names import split_kind
from engram_bench.errors import BackendError, UsageError
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
"""Whether the adapter changes what is computed, for each position that predicts a token of an answer to a prompt."""

T = TypeVar("T")


class RecipeSettings(Protocol):
    """Settings that a recipe is made of."""

    @property
    def steps(self) -> int | None:
        """Optimizer steps at most; None takes the recipe's usual number, which grows with the examples."""

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

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Fields that the user's recipe sets, by their names in a recipe file."""


OWN_FIELDS = {field.name for field in fields(Recipe)} - {"kind", "steps", "seed", "checkpoints", "options"}
"""Fields of a recipe that a recipe file sets under the same name."""
OF_MEMORIES = {"kind", "steps", "seed", "stop_at_recall", "memory"}
"""Fields of a recipe file that a memory without a LoRA has a use for."""
OF_LORAS = {"dtype"}
"""Fields of a recipe file that only a LoRA without a memory has a use for: a memory is trained on the weights that answer."""


def _steps(settings: RecipeSettings) -> int:
    return Recipe().steps if settings.steps is None else settings.steps


def _lora_recipe(settings: RecipeSettings, preset: str) -> Recipe:
    recipe = Recipe(
        steps=_steps(settings),
        seed=settings.seed,
        checkpoints=settings.checkpoints if settings.sweep else 0,
        options={"load_in_4bit": True} if settings.load_in_4bit else {},
    )
    return _with_fields(recipe, settings.recipe)


def _memory_recipe(settings: RecipeSettings, preset: str) -> Recipe:
    return _with_fields(
        memory_recipe(preset=preset or "exact", steps=_steps(settings), seed=settings.seed), settings.recipe
    )


def _both_recipe(settings: RecipeSettings, preset: str) -> Recipe:
    return _with_fields(
        both_recipe(preset=preset or "exact", steps=_steps(settings), seed=settings.seed), settings.recipe
    )


def _with_fields(recipe: Recipe, wanted: Mapping[str, Any]) -> Recipe:
    """The recipe with the fields that a recipe file sets."""
    changes = {name: value for name, value in wanted.items() if name in OWN_FIELDS}
    if isinstance(targets := changes.get("targets"), str):
        changes["targets"] = (targets if targets == "all-linear" else f"/{targets}/",)
    elif targets:
        changes["targets"] = tuple(targets)
    changed = replace(recipe, **changes, options={**recipe.options, **wanted.get("memory", {})})
    return replace(changed, batch_size=changed.batch_size * wanted.get("gradient_accumulation_steps", 1))


@dataclass(frozen=True, slots=True)
class AdapterKind:
    """What adapters of one kind have in common."""

    name: str
    """Name in a recipe, in ``--engram-kind`` and at the start of an adapter's name."""
    has_memory: bool
    """Whether the adapter's folder holds a memory."""
    has_lora: bool
    """Whether the adapter's folder holds a LoRA in PEFT's layout."""
    make_recipe: Callable[[RecipeSettings, str], Recipe]
    """Makes a recipe of the settings and a memory's preset; empty takes the default preset."""

    def recipe(self, settings: RecipeSettings, preset: str) -> Recipe:
        """The recipe that the settings ask for, with a memory of this preset; empty takes the default preset.

        Raises:
            UsageError: The user's recipe sets a field that this kind has no use for.
        """
        if unused := settings.recipe.keys() - self.usable(settings.recipe).keys():
            msg = f"recipe: {', '.join(sorted(unused))}: an adapter of kind {self.name} has no use for it"
            raise UsageError(msg)
        return self.make_recipe(settings, preset)

    def recipe_for(self, settings: RecipeSettings, preset: str, num_examples: int) -> Recipe:
        """The same recipe for a training on *num_examples* examples: epochs become steps, and the usual steps grow.

        A memory passes over all examples in each of its steps, so that more examples need no more steps.
        """
        recipe, wanted = self.recipe(settings, preset), settings.recipe
        if not self.has_lora:
            return recipe
        if epochs := wanted.get("num_train_epochs"):
            return replace(recipe, steps=math.ceil(epochs * num_examples / recipe.batch_size))
        usual = 1.0 if settings.steps is None else 0.0
        return recipe.with_steps_for(num_examples, wanted.get("steps_per_example", usual))

    def usable(self, fields: Mapping[str, T]) -> dict[str, T]:
        """Those *fields* of a recipe file that this kind has a use for."""
        return {
            name: value
            for name, value in fields.items()
            if (self.has_lora or name in OF_MEMORIES) and not (self.has_memory and name in OF_LORAS)
            if self.has_memory or name != "memory"
        }

    def augmentation(self, recipe: Recipe) -> Augmentation:
        """Which variants of the prompts an adapter of this *recipe* learns from.

        Raises:
            BackendError: An option of the recipe cannot be used.
        """
        wants = recipe.augmentation if self.has_lora else config_of(recipe).needs_variants
        return DEFAULT_AUGMENTATION if wants else AS_WRITTEN

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


LORA = AdapterKind("lora", has_memory=False, has_lora=True, make_recipe=_lora_recipe)
MEMORY = AdapterKind("memory", has_memory=True, has_lora=False, make_recipe=_memory_recipe)
BOTH = AdapterKind("both", has_memory=True, has_lora=True, make_recipe=_both_recipe)
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
