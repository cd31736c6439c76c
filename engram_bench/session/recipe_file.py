"""Recipes that users write: the fields, where a recipe may stand, and what of it an adapter kind can use.

A recipe stands in ``[recipe]`` of ``engram.toml``, in ``[tool.engram-bench.recipe]`` of ``pyproject.toml``, in a TOML file of its
own or in a preset. Fields have this package's names or, where PEFT and TRL have one, theirs.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from engram_bench.adapters.kind_names import split_kind
from engram_bench.errors import UsageError
from engram_bench.session.option import PREFIX
from engram_bench.system.reading import read_text

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
    "careful": {"learning_rate": 5e-4, "steps": 900, "replay": 4, "min_recall": 1.0},
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
    steps: int = Field(450, ge=0, le=10_000_000, description="Largest number of optimizer steps.")
    num_train_epochs: float | None = Field(
        None, gt=0, le=10_000, description="Passes over all examples at most, in place of steps."
    )
    stop_at_recall: bool = Field(True, description="Whether training ends once enough examples are recalled.")
    min_recall: float = Field(0.98, gt=0, le=1, description="Share of the examples that is enough.")
    replay: int = Field(
        2, ge=0, le=4096, description="Ordinary prompts per step whose answers are held to those of the bare model."
    )
    replay_weight: float = Field(1.0, ge=0, le=1e6, description="Weight of that second loss beside the answers' loss.")
    augmentation: bool = Field(True, description="Whether a LoRA also learns phrasings made of each prompt.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of everything random in training.")
    memory: dict[str, str | int | float | bool] = Field(
        {}, description="Settings of a memory beside its preset, by their names in docs/memory.md."
    )


def read_recipe(choice: str, changes: Iterable[str], *, root: Path, base: Path, prefix: str = PREFIX) -> dict[str, Any]:
    """The fields that a user's recipe sets, by their names in :class:`RecipeFile`.

    Args:
        choice: A preset or a file; empty takes the project's recipe, if it has one.
        changes: Texts such as ``rank=16``, on top; the value is one of TOML, or else a text.
        root: Folder of the project's ``engram.toml`` and ``pyproject.toml``.
        base: Folder that the path of a file starts from.
        prefix: Prefix of the options in messages.

    Returns:
        Only the fields that are set, checked, with the preset's among them. Empty without any recipe.

    Raises:
        UsageError: A file cannot be read, or a field is unknown, of another type or out of range; the message names the
            source, the field, what was found and what was expected, for every mistake.
    """
    found: dict[str, Any] = {}
    if choice in PRESETS:
        found = {"preset": choice}
    elif choice:
        found = checked_fields(_of_file(base / choice), str(base / choice))
    else:
        for path, table in (
            (root / "engram.toml", ("recipe",)),
            (root / "pyproject.toml", ("tool", "engram-bench", "recipe")),
        ):
            if path.is_file() and (fields := table_of(toml_of(path), table, str(path))) is not None:
                found = checked_fields(fields, str(path))
                break
    source = f"{prefix}set"
    found |= checked_fields(changed_fields(changes, source), source)
    return {**PRESETS[found.pop("preset", "default")], **found}


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe's table, the names of PEFT and TRL included."""
    schema = RecipeFile.model_json_schema()
    properties = schema["properties"]
    schema["properties"] = properties | {other: properties[field] for other, field in SAME_AS.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "engram-bench recipe"}


def _of_file(path: Path) -> Mapping[str, Any]:
    """The recipe in a file of its own: its ``[recipe]`` table, or all of it."""
    if not path.is_file():
        msg = f"recipe: got {str(path)!r}, expected a TOML file or one of {', '.join(PRESETS)}"
        raise UsageError(msg)
    document = toml_of(path)
    return table_of(document, ("recipe",), str(path)) or document


def toml_of(path: Path) -> Mapping[str, Any]:
    """The document in a TOML file.

    Raises:
        UsageError: The file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {str(error).splitlines()[0]}"
        raise UsageError(msg) from error


def table_of(document: Mapping[str, Any], names: Iterable[str], source: str) -> Mapping[str, Any] | None:
    """The table below these *names* of a document; None where there is none.

    Raises:
        UsageError: Something else stands there.
    """
    found: Any = document
    for name in names:
        if name not in found:
            return None
        found = found[name]
        if not isinstance(found, dict):
            msg = f"{source}: {name} is {found!r}, expected a table"
            raise UsageError(msg)
    table: Mapping[str, Any] = found
    return table


def changed_fields(changes: Iterable[str], source: str) -> dict[str, Any]:
    """The fields in texts such as ``rank=16``, unchecked.

    Raises:
        UsageError: A text has no field or no value.
    """
    return dict(_change(text, source) for text in changes)


def _change(text: str, source: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        msg = f"{source}: got {text!r}, expected FIELD=VALUE, such as rank=16"
        raise UsageError(msg)
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def checked_fields(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The fields of a recipe by their names in :class:`RecipeFile`, checked.

    Raises:
        UsageError: A field is unknown, of another type, out of range, or set twice; names the *source* and every mistake.
    """
    fields: dict[str, Any] = {}
    for name, value in given.items():
        field = SAME_AS.get(name, name)
        if field in fields:
            msg = f"{source}: {name} and another name set {field}, expected one of them"
            raise UsageError(msg)
        fields[field] = value
    try:
        checked = RecipeFile.model_validate(fields)
    except ValidationError as error:
        mistakes = [_worded(detail) for detail in error.errors(include_url=False)]
        raise UsageError("\n".join(f"{source}: {mistake}" for mistake in dict.fromkeys(mistakes))) from error
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def _worded(detail: Mapping[str, Any]) -> str:
    name, found = str(detail["loc"][0]), detail["input"]
    if detail["type"] == "extra_forbidden":
        close = get_close_matches(name, [*RecipeFile.model_fields, *SAME_AS], n=1)
        expected = repr(close[0]) if close else f"one of {', '.join(RecipeFile.model_fields)}"
        return f"unknown field {name!r}, expected {expected}"
    return f"{name} is {found!r}, expected {expected_of(name)}"


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
    return f"{number} {low} and at most {schema['maximum']:,.10g}".replace(",", " ")
