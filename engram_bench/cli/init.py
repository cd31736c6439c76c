"""Create the files of a project: example patterns, pytest configuration, a CI workflow and .gitignore lines.

Existing files are never overwritten. Only .gitignore, and a pyproject.toml without pytest configuration, get lines at
their end.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from engram_bench.cli.arguments import add_json
from engram_bench.cli.console import say, say_json
from engram_bench.cli.project import pytest_config
from engram_bench.door import printable
from engram_bench.patterns.schema import schema_text
from engram_bench.system.reading import read_text

PACKAGE = Path(__file__).parents[1]
"""Folder of the package. A wheel holds the shipped patterns inside this folder, a checkout beside it."""

IGNORED = ("/adapters/", "/reports/", "/data/engram/")
"""Folders that commands can make again."""

_INI = """\
[pytest]
engram_patterns = patterns
engram_gate =
    accuracy >= +10pp
"""
_TOML = """
[tool.pytest.ini_options]
engram_patterns = ["patterns"]
engram_gate = ["accuracy >= +10pp"]
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file of the project."""

    path: str
    outcome: Literal["made", "extended", "kept"]
    note: str = ""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the folder of the project."""
    parser.add_argument(
        "folder", nargs="?", default=".", metavar="DIR", help="Folder of the project. Default: the current folder."
    )
    parser.add_argument(
        "--example",
        action="store_true",
        help="Copy the patterns that are shipped with engram-bench instead of one small example.",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Create what is missing, and print what to do next."""
    found = list(scaffold(Path(args.folder), example=args.example))
    if args.json:
        say_json([{"path": each.path, "outcome": each.outcome, "note": each.note} for each in found])
        return 0
    for each in found:
        note = f"  ({each.note})" if each.note else ""
        say(f"{each.outcome:<9} {printable(each.path)}{note}", style="" if each.outcome == "kept" else "green")
    into = "" if args.folder == "." else f"cd {printable(args.folder)}, then "
    say(
        "",
        f"next: {into}engram-bench check   mistakes in the patterns",
        "      pytest patterns      train, ask, compare",
    )
    return 0


def scaffold(root: Path, *, example: bool = False) -> Iterator[Outcome]:
    """Create each missing file of a project in *root*; one outcome per file.

    Args:
        root: Folder of the project, created if missing.
        example: Whether to copy the shipped patterns, also beside pattern files of the project.

    Raises:
        FileNotFoundError: The package was installed without the shipped patterns.
    """
    templates = resources.files("engram_bench.cli").joinpath("templates")
    patterns = root / "patterns"
    if example:
        for path in shipped_patterns():
            yield _make(root, f"patterns/{path.name}", read_text(path))
    elif any(path.suffix in (".yaml", ".yml", ".jsonl") for path in patterns.glob("*")):
        yield Outcome("patterns/", "kept", "has pattern files")
    else:
        yield _make(root, "patterns/example.yaml", templates.joinpath("example.yaml").read_text("utf-8"))
    yield _make(root, "patterns/pattern.schema.json", _schema())
    yield _configure_pytest(root)
    yield _make(root, ".github/workflows/engram-bench.yml", templates.joinpath("workflow.yml").read_text("utf-8"))
    yield _ignore(root)


def shipped_patterns() -> list[Path]:
    """The shipped pattern files in order of name, from the checkout or from the installed package.

    Raises:
        FileNotFoundError: Neither has them.
    """
    is_checkout = (PACKAGE.parent / "pyproject.toml").exists()
    folder = PACKAGE.parent / "patterns" if is_checkout else PACKAGE / "shipped_patterns"
    return sorted(path for path in folder.iterdir() if path.suffix == ".yaml")


def _schema() -> str:
    """The JSON schema with which editors complete and check a pattern file, as its first line asks them to."""
    return schema_text()


def _make(root: Path, name: str, text: str) -> Outcome:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return Outcome(name, "kept")
    return Outcome(name, "made")


def _configure_pytest(root: Path) -> Outcome:
    """Configure pytest, unless the project does: a second configuration file would hide the first from pytest."""
    if (config := pytest_config(root)) is not None:
        return Outcome(config.name, "kept", "configures pytest; engram_* keys may be added there")
    project = root / "pyproject.toml"
    if project.exists():
        return _append(project, _TOML)
    return _make(root, "pytest.ini", _INI)


def _ignore(root: Path) -> Outcome:
    path = root / ".gitignore"
    there = read_text(path).splitlines() if path.exists() else []
    names = {line.strip().strip("/") for line in there}
    missing = [line for line in IGNORED if line.strip("/") not in names]
    if not missing:
        return Outcome(path.name, "kept")
    return _append(path, "\n".join(missing) + "\n")


def _append(path: Path, text: str) -> Outcome:
    """Add the text at the end of the file, on a line of its own."""
    is_there = path.exists()
    with path.open("a+", encoding="utf-8", newline="") as file:
        file.seek(0)
        before = file.read()
        file.write(("" if not before or before.endswith("\n") else "\n") + text)
    return Outcome(path.name, "extended" if is_there else "made")
