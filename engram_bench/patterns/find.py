"""The pattern files of a project: the one way in which commands and pytest find them.

The search follows links, and takes each file once however many links lead to it. It enters no folder that pytest would leave
out, so what is trained is what is collected.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

from engram_bench.errors import PatternFileError

SUFFIXES = (".yaml", ".yml", ".jsonl")
LEFT_OUT = ("*.egg", "_darcs", "build", "CVS", "dist", "node_modules", "venv", "{arch}")
"""Names of folders that pytest does not enter unless its ini key ``norecursedirs`` says otherwise; hidden ones besides."""


def find_pattern_files(paths: Iterable[Path | str]) -> list[Path]:
    """The pattern files at *paths*, each file once, sorted by path.

    A folder stands for all pattern files in it and in its folders, links included, except hidden ones and :data:`LEFT_OUT`. Of
    several paths to one file the first found counts: the earlier of *paths*, then files before folders, then by name.

    Raises:
        PatternFileError: A path does not exist, or a folder holds no pattern file.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = list(_inside(path, set()))
            if not inside:
                raise PatternFileError(path, [f"no pattern files, expected at least one of *{', *'.join(SUFFIXES)}"])
        elif path.exists():
            inside = [path]
        else:
            raise PatternFileError(path, ["no such file or folder, expected pattern files"])
        for file in inside:
            found.setdefault(file.resolve(), file)
    return sorted(found.values())


def configured_files(paths: Iterable[Path]) -> dict[Path, Path]:
    """The pattern files at those of *paths* that exist: the file behind all links → its path. Empty where there is none."""
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _inside(path, set()) if path.is_dir() else [path] if path.exists() else []:
            found.setdefault(file.resolve(), file)
    return found


def _inside(folder: Path, entered: set[Path]) -> Iterator[Path]:
    """The pattern files in a folder, then those in its folders; a folder that was entered before is left out."""
    real = folder.resolve()
    if real in entered:
        return  # a link that leads back, or a second link to the same folder
    entered.add(real)
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    paths = [folder / name for name in names]
    yield from (path for path in paths if path.suffix in SUFFIXES and path.is_file())
    for path in paths:
        if path.is_dir() and not any(fnmatch(path.name, pattern) for pattern in LEFT_OUT):
            yield from _inside(path, entered)
