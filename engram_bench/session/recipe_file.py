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
        found = _checked(_of_file(base / choice), str(base / choice))
    else:
        for path, table in (
            (root / "engram.toml", ("recipe",)),
            (root / "pyproject.toml", ("tool", "engram-bench", "recipe")),
        ):
            if path.is_file() and (fields := _table(_toml(path), table, str(path))) is not None:
                found = _checked(fields, str(path))
                break
    source = f"{prefix}set"
    found |= _checked(dict(_change(text, source) for text in changes), source)
    preset = dict(PRESETS[found.pop("preset", "default")])
    if "steps" in found:
        preset.pop("steps_per_example", None)  # the growth belongs to the preset's own steps
    return {**preset, **found}


def _of_file(path: Path) -> Mapping[str, Any]:
    """The recipe in a file of its own: its ``[recipe]`` table, or all of it."""
    if not path.is_file():
        msg = f"recipe: got {str(path)!r}, expected a TOML file or one of {', '.join(PRESETS)}"
        raise UsageError(msg)
    document = _toml(path)
    return _table(document, ("recipe",), str(path)) or document


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {str(error).splitlines()[0]}"
        raise UsageError(msg) from error


def _table(document: Mapping[str, Any], names: Iterable[str], source: str) -> Mapping[str, Any] | None:
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


def _change(text: str, source: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        msg = f"{source}: got {text!r}, expected FIELD=VALUE, such as rank=16"
        raise UsageError(msg)
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _checked(given: Mapping[str, Any], source: str) -> dict[str, Any]:
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
