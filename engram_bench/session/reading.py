"""The settings of a session, read from flags, ini values and recipe files, and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from os.path import normpath
from pathlib import Path
from typing import Any

from engram_bench.errors import UsageError
from engram_bench.session.option import PREFIX
from engram_bench.session.options import OPTIONS, Settings
from engram_bench.system.reading import read_bytes
from engram_bench.system.secrets import hide_secrets

OF_LENGTH = ("num_train_epochs", "steps_per_example")
"""Fields of a recipe that change the number of steps."""


def check_keys(names: Iterable[str]) -> None:
    """Refuse a key of ours that no option has: a gate that is misspelt would not be judged.

    Args:
        names: Keys of pytest's configuration that no other plugin knows.

    Raises:
        UsageError: A key begins as ours do and is none.
    """
    known = {option.dest for option in OPTIONS}
    for name in names:
        if name.startswith("engram_") and name not in known:
            from difflib import get_close_matches

            near = "".join(f"; did you mean {each}?" for each in get_close_matches(name, known, n=1))
            msg = f"{name}: unknown key of the configuration, expected one that engram-bench has{near}"
            raise UsageError(msg)


def read_settings(
    flags: Mapping[str, Any], ini: Mapping[str, Any], *, root: Path, cwd: Path, prefix: str = PREFIX
) -> Settings:
    """Settings from flag values and ini values, both keyed by ``Option.dest``.

    Relative paths of flags are under *cwd*, those of ini keys and defaults under *root* (a pytest user's expectation).

    Raises:
        UsageError: An option cannot be read, or two of them make no sense together.
    """
    hide_secrets(flags.get("engram_server_url"), ini.get("engram_server_url"))
    values: dict[str, Any] = {}
    for option in OPTIONS:
        flag = flags.get(option.dest)
        value = option.read(flag, ini.get(option.dest), prefix=prefix)
        base = cwd if flag else root
        values[option.field] = _anchored(value, base)
    given = {option.field for option in OPTIONS if option.is_given(flags.get(option.dest), ini.get(option.dest))}
    recipe = _recipe(values, root=root, base=cwd if flags.get("engram_recipe") else root, prefix=prefix)
    values |= {name: value for name, value in recipe.items() if name in ("kind", "steps", "seed") and name not in given}
    if "steps" in given:  # on the command line or in the ini file, steps stand above every recipe
        recipe = {name: value for name, value in recipe.items() if name not in OF_LENGTH}
    values["recipe"] = recipe
    settings = Settings(**{field.name: values[field.name] for field in fields(Settings)})
    _check_together(settings, prefix)
    return settings


def _recipe(values: Mapping[str, Any], *, root: Path, base: Path, prefix: str) -> dict[str, Any]:
    """The user's recipe; without one nothing of recipes is imported."""
    is_asked = values["recipe"] or values["set"]
    if not (
        is_asked or _mentions(root / "engram.toml", b"recipe") or _mentions(root / "pyproject.toml", b"engram-bench")
    ):
        return {}
    from engram_bench.session.recipe_file import read_recipe

    return read_recipe(values["recipe"], values["set"], root=root, base=base, prefix=prefix)


def _mentions(path: Path, word: bytes) -> bool:
    """Whether a file has the word somewhere; one that cannot be read is left to its reader."""
    try:
        return path.is_file() and word in read_bytes(path)
    except OSError:
        return True


def _check_together(settings: Settings, prefix: str) -> None:
    if settings.temperature == 0 and settings.samples > 1:
        msg = (
            f"{prefix}temperature: got 0 with {prefix}samples={settings.samples}, expected above 0, because all "
            f"samples are the same answer at temperature 0; {prefix}samples=0 draws none"
        )
        raise UsageError(msg)


def _anchored(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return Path(normpath(base / value))  # without "..", as pytest shows its paths
    if isinstance(value, tuple):
        return tuple(_anchored(part, base) for part in value)
    return value
