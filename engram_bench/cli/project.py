"""The project around the current folder: its root and its ``engram_*`` ini keys, found as pytest finds them."""

from __future__ import annotations

import argparse
import configparser
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engram_bench.errors import UsageError
from engram_bench.session.options import OPTIONS, Settings
from engram_bench.session.reading import check_keys, read_settings
from engram_bench.system.reading import read_text

_SECTIONS = {
    "pytest.toml": ("pytest",),
    ".pytest.toml": ("pytest",),
    "pytest.ini": ("pytest",),
    ".pytest.ini": ("pytest",),
    "pyproject.toml": ("tool", "pytest"),
    "tox.ini": ("pytest",),
    "setup.cfg": ("tool:pytest",),
}
"""Configuration files in pytest's order → the table that pytest reads in each."""


@dataclass(frozen=True, slots=True)
class Project:
    """The root folder that relative paths start from, and the values of the ini keys."""

    root: Path
    ini: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None
    """File with pytest's configuration; None where there is none."""
    python_path: tuple[Path, ...] = ()
    """Folders of pytest's ini key ``pythonpath``, from which the project's own code is imported."""

    def settings(self, flags: Mapping[str, Any], cwd: Path, *, has_candidates: bool = False) -> Settings:
        """The settings of a command: a flag beats the ini key, which beats the default.

        Args:
            flags: Values of the command's arguments.
            cwd: Current folder.
            has_candidates: Whether the command tests the project's candidates.

        Raises:
            UsageError: An option cannot be read.
        """
        return read_settings(flags, self.ini, root=self.root, cwd=cwd, prefix="--", has_candidates=has_candidates)


def find_project(cwd: Path) -> Project:
    """The project that pytest would find from *cwd*: the nearest folder upwards with pytest configuration, or *cwd* itself.

    Raises:
        UsageError: A configuration file cannot be read; names it.
    """
    for folder in (cwd, *cwd.parents):
        for path, keys in _configurations(folder):
            return Project(folder, _ours(keys), path, _python_path(folder, keys.get("pythonpath")))
    return Project(cwd)


def pytest_config(folder: Path) -> Path | None:
    """The file that configures pytest in exactly this folder; None if there is none.

    Raises:
        UsageError: A configuration file cannot be read; names it.
    """
    return next((path for path, _ in _configurations(folder)), None)


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings of a command's arguments in the project around the current folder."""
    cwd = Path.cwd()
    return find_project(cwd).settings(vars(args), cwd)


def _configurations(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for name, table in _SECTIONS.items():
        path = folder / name
        if path.is_file() and (keys := _read(path, table)) is not None:
            yield path, keys


def _read(path: Path, table: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The keys of the file's pytest table; None without such a table. ``pytest.ini`` counts even when it is empty."""
    try:
        if path.suffix == ".toml":
            return _toml_keys(tomllib.loads(read_text(path)), table)
        parser = configparser.ConfigParser(interpolation=None, allow_no_value=True)
        parser.read_string(read_text(path))
    except (OSError, UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError, configparser.Error) as error:
        msg = f"{path}: cannot be read: {str(error).splitlines()[0]}"
        raise UsageError(msg) from error
    if table[0] in parser:
        return parser[table[0]]
    return {} if path.name.endswith("pytest.ini") else None


def _toml_keys(document: Mapping[str, Any], table: tuple[str, ...]) -> Mapping[str, Any] | None:
    keys: Any = document
    for name in table:
        keys = keys.get(name) if isinstance(keys, dict) else None
    if not isinstance(keys, dict):
        return None
    options = keys.get("ini_options", keys)
    return options if isinstance(options, dict) else None


def _ours(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The package's own keys, each in the type that pytest would give its value.

    Raises:
        UsageError: A key begins as the package's do and is none.
    """
    check_keys(keys)
    values = {option.dest: keys[option.dest] for option in OPTIONS if keys.get(option.dest) is not None}
    for option in OPTIONS:
        if option.dest in values:
            values[option.dest] = _CONVERT[option.action](values[option.dest])
    return values


def _python_path(root: Path, value: Any) -> tuple[Path, ...]:
    """Folders of the key, which holds words in an ini file and a list in TOML."""
    words = shlex.split(value) if isinstance(value, str) else value if isinstance(value, list) else ()
    return tuple(root / str(word) for word in words)


def _lines(value: Any) -> list[str]:
    parts: Iterable[Any] = value.splitlines() if isinstance(value, str) else value
    return [text for part in parts if (text := str(part).strip())]


def _truth(value: Any) -> bool:
    return str(value).strip().lower() in ("1", "true", "yes", "on", "y", "t")


_CONVERT: dict[str, Callable[[Any], Any]] = {"store": str, "append": _lines, "store_true": _truth}
