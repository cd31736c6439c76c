"""Recipes that users write, read and checked whole.

A recipe stands in ``[recipe]`` of ``engram.toml``, in ``[tool.engram-bench.recipe]`` of ``pyproject.toml``, in a TOML file of its
own or in a preset. Fields have this package's names or, where PEFT and TRL have one, theirs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engram_bench.errors import UsageError
from engram_bench.session.option import PREFIX
from engram_bench.session.recipe_fields import PRESETS, SAME_AS, RecipeFile, expected_of, unknown_field
from engram_bench.system.reading import read_text


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
    preset = dict(PRESETS[found.pop("preset", "default")])
    if "steps" in found:
        preset.pop("steps_per_example", None)  # the growth belongs to the preset's own steps
    return {**preset, **found}


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
        return unknown_field(name)
    return f"{name} is {found!r}, expected {expected_of(name)}"
