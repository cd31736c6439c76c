"""Show the recipe of this project's training, explain its fields, or compare two recipes. No model is loaded.

engram-bench recipe [show] [PRESET|FILE]      every field of the project's recipe or of another, as TOML
engram-bench recipe explain [FIELD …]         what the fields do, with their ranges and defaults
engram-bench recipe diff [[ONE] OTHER]        the fields in which OTHER, or the project's recipe, differs from ONE or the default
engram-bench recipe schema                    the JSON schema of a recipe file
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engram_bench.adapters.kinds import requested_kind
from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.console import say, say_json, table
from engram_bench.cli.project import find_project
from engram_bench.errors import UsageError
from engram_bench.session.options import Settings
from engram_bench.session.recipe_fields import (
    PRESETS,
    SAME_AS,
    RecipeFile,
    expected_of,
    recipe_schema,
    toml_value,
    unknown_field,
)


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare what to do and with which recipes."""
    parser.add_argument(
        "action",
        nargs="?",
        default="show",
        choices=("show", "explain", "diff", "schema"),
        help="What to do; default: show.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"Recipes ({', '.join(PRESETS)}, or files), or fields."
    )
    add_settings(parser, "recipe", "set", "kind", "steps", "seed")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    {"show": _show, "explain": _explain, "diff": _diff, "schema": _schema}[args.action](args)
    return 0


def _show(args: argparse.Namespace) -> None:
    if len(args.names) > 1:
        msg = f"recipe show: got {len(args.names)} recipes, expected one at most"
        raise UsageError(msg)
    fields = _fields(args, args.names[0] if args.names else "")
    if args.json:
        say_json(fields)
    else:
        say(*(f"{name} = {toml_value(value)}" for name, value in fields.items()))


def _explain(args: argparse.Namespace) -> None:
    known = RecipeFile.model_fields
    wanted = [SAME_AS.get(name, name) for name in args.names] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        msg = f"recipe explain: {unknown_field(unknown[0])}"
        raise UsageError(msg)
    other = {field: name for name, field in SAME_AS.items()}
    rows = [
        {
            "field": name,
            "default": known[name].default,
            "expected": expected_of(name),
            "also": other.get(name, ""),
            "effect": known[name].description,
        }
        for name in wanted
    ]
    if args.json:
        say_json(rows)
        return
    for row in rows:
        also = f" (in PEFT and TRL: {row['also']})" if row["also"] else ""
        say(
            f"{row['field']}{also}",
            f"  {row['effect']}",
            f"  {row['expected']}; default {toml_value(row['default'])}",
            "",
        )


def _diff(args: argparse.Namespace) -> None:
    if len(args.names) > 2:
        msg = f"recipe diff: got {len(args.names)} recipes, expected two at most"
        raise UsageError(msg)
    compared = [*["default"] * (len(args.names) < 2), *args.names, *[""] * (not args.names)]
    one, other = (_fields(args, name) for name in compared)
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    if args.json:
        say_json({name: [one.get(name), other.get(name)] for name in names})
    elif names:
        rows = [(name, toml_value(one.get(name)), toml_value(other.get(name))) for name in names]
        say(*table(rows, "field", *(name or "this project" for name in compared)))
    else:
        say("no field differs")


def _schema(args: argparse.Namespace) -> None:
    say_json(recipe_schema())


def _fields(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Every field of a recipe; an empty name is the project's."""
    settings = _settings(args, name)
    kind, preset = requested_kind(settings.kind)
    recipe = asdict(kind.recipe(settings, preset))
    options = recipe.pop("options")
    recipe.pop("checkpoints")
    fields = {"kind": settings.kind, **kind.usable({**recipe, "memory": options})}
    if "targets" in fields:
        fields["targets"] = _targets(fields["targets"])
    if epochs := settings.recipe.get("num_train_epochs"):
        return _in_place_of(fields, "steps", {"num_train_epochs": epochs})
    if not kind.has_lora:
        return fields
    growth = settings.recipe.get("steps_per_example", 1.0 if settings.steps is None else 0.0)
    return _in_place_of(fields, "steps", {"steps": fields["steps"], "steps_per_example": growth})


def _targets(targets: Sequence[str]) -> str | list[str]:
    """Targets as a recipe file has them."""
    if tuple(targets) == ("all-linear",):
        return targets[0]
    return targets[0][1:-1] if targets[0].startswith("/") else list(targets)


def _in_place_of(fields: Mapping[str, Any], name: str, others: Mapping[str, Any]) -> dict[str, Any]:
    """The *fields* in their order, with *others* in place of one of them."""
    return {
        key: value for field in fields for key, value in (others if field == name else {field: fields[field]}).items()
    }


def _settings(args: argparse.Namespace, name: str) -> Settings:
    cwd = Path.cwd()
    flags = vars(args) | ({"engram_recipe": name} if name else {})
    return find_project(cwd).settings(flags, cwd)
