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
from engram_bench.session.settings import OF_LENGTH
from engram_bench.system.reading import read_bytes
from engram_bench.system.secrets import hide_secrets


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
    flags: Mapping[str, Any],
    ini: Mapping[str, Any],
    *,
    root: Path,
    cwd: Path,
    prefix: str = PREFIX,
    has_candidates: bool = True,
) -> Settings:
    """Settings from flag values and ini values, both keyed by ``Option.dest``.

    Args:
        flags: Values of flags. Relative paths among these are under *cwd*.
        ini: Values of ini keys. Relative paths among these and among defaults are under *root*.
        root: Folder of the project.
        cwd: Current folder.
        prefix: Prefix of the options in messages.
        has_candidates: Whether the project's candidates are read; without these the settings are those of the project.

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
    texts = {name: values.pop(name) for name in ("candidate", "only")}
    values |= {"recipe": recipe, "recipe_name": values["recipe"]}
    settings = Settings(**{field.name: values[field.name] for field in fields(Settings) if field.name in values})
    _check_together(settings, prefix)
    if not has_candidates or not (any(texts.values()) or settings.seeds > 1 or _has_tables(root, b"candidate")):
        return settings
    from engram_bench.session.candidates import Session, with_candidates

    session = Session(settings, given, values["set"], root, prefix)
    return with_candidates(
        session, texts["candidate"], texts["only"], base=cwd if flags.get("engram_candidate") else root
    )


def _recipe(values: Mapping[str, Any], *, root: Path, base: Path, prefix: str) -> dict[str, Any]:
    """The user's recipe; without one nothing of recipes is imported."""
    if not (values["recipe"] or values["set"] or _has_tables(root, b"recipe")):
        return {}
    from engram_bench.session.recipe_file import read_recipe

    return read_recipe(values["recipe"], values["set"], root=root, base=base, prefix=prefix)


def _has_tables(root: Path, word: bytes) -> bool:
    """Whether the project's files may have a table of this name."""
    return _mentions(root / "engram.toml", word) or _mentions(root / "pyproject.toml", b"engram-bench", word)


def _mentions(path: Path, *words: bytes) -> bool:
    """Whether a file has the words somewhere; one that cannot be read is left to its reader."""
    try:
        content = read_bytes(path) if path.is_file() else b""
        return bool(content) and all(word in content for word in words)
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
