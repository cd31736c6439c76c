"""The fields of a recipe, with their ranges, defaults and effects, their other names, and the presets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from engram_bench.adapters.kind_names import split_kind

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "forerunner": {
        "rank": 8,
        "learning_rate": 1e-5,
        "loraplus_lr_ratio": 1.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "batch_size": 4,
        "steps": 100,
        "replay": 0,
        "stop_at_recall": False,
        "augmentation": False,
    },
    "fast": {"replay": 0, "augmentation": False},
    "careful": {"learning_rate": 5e-4, "steps": 900, "steps_per_example": 2.0, "replay": 4, "min_recall": 1.0},
}
"""Preset → the fields in which it differs from the default recipe. ``forerunner`` is what the first experiments used."""

SAME_AS = {
    "r": "rank",
    "lora_alpha": "alpha",
    "target_modules": "targets",
    "lr_scheduler_type": "schedule",
    "max_steps": "steps",
    "per_device_train_batch_size": "batch_size",
}
"""A name of PEFT or TRL → the field that means the same."""

MEANT = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "iters": "steps",
    "warmup": "warmup_steps",
    "warmup_ratio": "warmup_steps",
    "lora_r": "rank",
    "rslora": "use_rslora",
    "num_layers": "layers",
    "layers_to_transform": "layers",
    "gradient_accumulation": "gradient_accumulation_steps",
    "early_stopping": "stop_at_recall",
    "early_stopping_patience": "min_recall",
    "random_seed": "seed",
}
"""A name that other tools use, or that is not exact → the field that is likely meant."""


def _kind(text: str) -> str:
    split_kind(text)
    return text


def _targets(given: str | list[str]) -> str | list[str]:
    if isinstance(given, str) and given != "all-linear":
        try:
            re.compile(given)
        except re.error as error:
            msg = f"a list of names, 'all-linear', or a regular expression: {error}"
            raise ValueError(msg) from error
    return given


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$", max_length=200)]


class RecipeFile(BaseModel):
    """Fields of a recipe. A field that is left out keeps its default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    preset: Literal["default", "forerunner", "fast", "careful"] = Field(
        "default", description="Recipe that this one starts from."
    )
    kind: Annotated[str, AfterValidator(_kind)] = Field(
        "lora", description="Kind of adapter: lora, memory, both, memory:PRESET or both:PRESET."
    )
    rank: int = Field(8, ge=1, le=1024, description="Inner size of LoRA's update. More can learn more and costs more.")
    alpha: float = Field(16.0, gt=0, le=1e6, description="Strength of LoRA's update: its factor is alpha / rank.")
    use_rslora: bool = Field(
        False, description="Whether the factor is alpha / √rank, so that large ranks learn as fast."
    )
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of the adapter's inputs that a training step leaves out, drawn by the seed."
    )
    targets: Annotated[str | Annotated[list[Name], Field(min_length=1)], AfterValidator(_targets)] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        description="Linear layers that are adapted: their names, all-linear, or one regular expression that the whole path "
        "of a layer matches.",
    )
    layers: Annotated[str, StringConstraints(pattern=r"^(all|(first|last) [1-9]\d{0,3}|\d{1,4}-\d{1,4})$")] = Field(
        "all",
        description="Blocks that are adapted, counted from 0: all, first N, last N or FROM-TO with both included.",
    )
    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="Learning rate of every matrix A at the highest point of the schedule."
    )
    loraplus_lr_ratio: float = Field(
        4.0, gt=0, le=100, description="Learning rate of every matrix B over that of A (LoRA+); 1 is plain LoRA."
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Course of the learning rate after the warm-up: down to 0 at the last step, or constant."
    )
    warmup_steps: int = Field(10, ge=0, le=100_000, description="Steps in which the learning rate rises from 0.")
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="Share of a weight that AdamW takes off, per unit of rate."
    )
    max_grad_norm: float = Field(1.0, ge=0, le=1e6, description="Norm at which gradients are clipped; 0 does not clip.")
    batch_size: int = Field(8, ge=1, le=4096, description="Training examples per pass of a step.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=4096, description="Passes per step: a step learns from batch_size times this many examples."
    )
    steps: int = Field(
        450, ge=0, le=10_000_000, description="Largest number of optimizer steps, for up to 600 training examples."
    )
    steps_per_example: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Steps of 8 examples that each example beyond 600 adds to steps; larger batches need fewer. 0 where "
        "only steps is set.",
    )
    num_train_epochs: float | None = Field(
        None, gt=0, le=10_000, description="Passes over all examples at most, in place of steps and steps_per_example."
    )
    stop_at_recall: bool = Field(True, description="Whether training ends once enough examples are recalled.")
    min_recall: float = Field(0.98, gt=0, le=1, description="Share of the examples that is enough.")
    replay: int = Field(
        2, ge=0, le=4096, description="Ordinary prompts per step whose answers are held to those of the bare model."
    )
    replay_weight: float = Field(1.0, ge=0, le=1e6, description="Weight of that second loss beside the answers' loss.")
    augmentation: bool = Field(True, description="Whether a LoRA also learns phrasings made of each prompt.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Data type of the base weights in training; auto takes that of the backend."
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of everything random in training.")
    memory: dict[str, str | int | float | bool] = Field(
        {}, description="Settings of a memory beside its preset, by their names in docs/memory.md."
    )


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe's table, the names of PEFT and TRL included."""
    schema = RecipeFile.model_json_schema()
    properties = schema["properties"]
    schema["properties"] = properties | {other: properties[field] for other, field in SAME_AS.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "engram-bench recipe"}


def expected_of(field: str) -> str:
    """The values that a field may have, in words: ``a whole number from 1 to 1024``."""
    special = {
        "kind": "lora, memory, both, memory:PRESET or both:PRESET",
        "targets": "a list of names, 'all-linear', or a regular expression",
        "layers": "all, first N, last N or FROM-TO",
        "memory": "a table of numbers, texts and truth values",
    }
    if field in special:
        return special[field]
    schema = recipe_schema()["properties"][field]
    schema = next((kind for kind in schema.get("anyOf", []) if kind["type"] != "null"), schema)
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if schema["type"] == "boolean":
        return "true or false"
    number = "a whole number" if schema["type"] == "integer" else "a number"
    low = (
        f"above {schema['exclusiveMinimum']:g}"
        if "exclusiveMinimum" in schema
        else f"of at least {schema['minimum']:g}"
    )
    high = (
        f"below {schema['exclusiveMaximum']:g}"
        if "exclusiveMaximum" in schema
        else f"at most {schema['maximum']:,.10g}".replace(",", " ")
    )
    return f"{number} {low} and {high}"


def nearest(name: str) -> str:
    """The field that is most likely meant by an unknown *name*; empty where no field is near."""
    if name in MEANT:
        return MEANT[name]
    return next(iter(get_close_matches(name, [*RecipeFile.model_fields, *SAME_AS], n=1)), "")


def unknown_field(name: str) -> str:
    """Message on a field that there is not: the nearest one, or all."""
    close = nearest(name)
    expected = repr(close) if close else f"one of {', '.join(RecipeFile.model_fields)}"
    return f"unknown field {name!r}, expected {expected}"


def toml_value(value: Any) -> str:
    """A value of a field as TOML writes it; ``none``, which TOML lacks, for None."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {toml_value(each)}" for name, each in value.items()) + "}"
    return "none" if value is None else json.dumps(value)
