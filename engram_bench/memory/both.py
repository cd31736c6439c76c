"""A memory and a LoRA in one adapter: the options of a recipe of kind ``both``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from engram_bench.memory.config import check_rules, options_of, read_option
from engram_bench.records import Recipe

Order = Literal["memory-first", "lora-first", "joint"]


@dataclass(frozen=True, slots=True)
class BothConfig:
    """How the two parts are trained to answer together."""

    order: Order = "memory-first"
    """``memory-first``: the memory, then a LoRA with its rows frozen. ``lora-first``: a memory on top of the LoRA.
    ``joint``: both in each step, the control."""
    silence: float = 1.0
    """Share of a step's examples in which the memory is silent while the LoRA learns; not with ``lora-first``. With 1 the
    LoRA is trained, and its training ended, as if there were no memory; ``joint`` rows would then learn nothing."""


SILENCE: Mapping[Order, float] = {"memory-first": 1.0, "lora-first": 1.0, "joint": 0.5}
"""Share of silence by order, unless the recipe says otherwise."""


def both_recipe(*, preset: str = "exact", steps: int, seed: int, order: Order = "memory-first") -> Recipe:
    """A recipe of kind ``both``; each part may take *steps* steps."""
    return Recipe(kind="both", steps=steps, seed=seed, options={**options_of(preset), "order": order})


def parts_of(recipe: Recipe) -> tuple[BothConfig, Recipe]:
    """How the parts of a recipe of kind ``both`` are trained, and the recipe of its memory.

    The LoRA's is the recipe itself.

    Raises:
        BackendError: An option has a value that cannot be used; names it.
    """
    names = {field.name for field in fields(BothConfig)}
    usual = BothConfig()
    own = {
        name: read_option(name, value, getattr(usual, name)) for name, value in recipe.options.items() if name in names
    }
    config = BothConfig(**{"silence": SILENCE.get(own.get("order", usual.order), usual.silence), **own})
    check_rules(
        (
            ("order", config.order, config.order in get_args(Order), " or ".join(get_args(Order))),
            ("silence", config.silence, 0 <= config.silence <= 1, "a share from 0 to 1"),
            ("silence", config.silence, config.order != "joint" or config.silence < 1, "less than 1 with order joint"),
        )
    )
    options = {name: value for name, value in recipe.options.items() if name not in names}
    return config, replace(recipe, kind="memory", options=options)
