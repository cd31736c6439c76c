"""Scaffold a project: example patterns, pytest configuration, a CI workflow and .gitignore lines.

What is there already is never overwritten: files stay as they are, .gitignore and a pyproject.toml without pytest
configuration get lines at their end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from engram_bench.cli.arguments import add_json
from engram_bench.cli.console import say, say_json
from engram_bench.cli.project import pytest_config
from engram_bench.reporting.clean import printable

PACKAGE = Path(__file__).parents[1]
"""Folder of the package: a wheel has the shipped patterns in it, a checkout beside it."""

IGNORED = ("/adapters/", "/reports/", "/data/engram/")
"""What commands make anew."""

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
class Deed:
    """What was done about one file."""

    path: str
    outcome: Literal["made", "extended", "kept"]
    note: str = ""


def declare(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument(
        "folder", nargs="?", default=".", metavar="DIR", help="The project. Default: the current folder."
    )
    parser.add_argument(
        "--example",
        action="store_true",
        help="Copy the patterns that are shipped with engram-bench, in place of one small example.",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make what is missing, and say what to do next."""
    deeds = list(scaffold(Path(args.folder), example=args.example))
    if args.json:
        say_json([{"path": deed.path, "outcome": deed.outcome, "note": deed.note} for deed in deeds])
        return 0
    for deed in deeds:
        note = f"  ({deed.note})" if deed.note else ""
        say(f"{deed.outcome:<9} {printable(deed.path)}{note}", style="" if deed.outcome == "kept" else "green")
    into = "" if args.folder == "." else f"cd {printable(args.folder)}, then "
    say(
        "",
        f"next: {into}engram-bench check   mistakes in the patterns",
        "      pytest patterns      train, ask, compare",
    )
    return 0


def scaffold(root: Path, *, example: bool = False) -> Iterator[Deed]:
    """Make each file of a project that is missing in *root*, and report on each.

    Args:
        root: Folder of the project; made if it is missing.
        example: The shipped patterns are copied, also beside pattern files of the project's own.

    Raises:
        FileNotFoundError: The package was installed without the shipped patterns.
    """
    templates = resources.files("engram_bench.cli").joinpath("templates")
    patterns = root / "patterns"
    if example:
        for path in shipped_patterns():
            yield _make(root, f"patterns/{path.name}", path.read_text("utf-8"))
    elif any(path.suffix in (".yaml", ".yml", ".jsonl") for path in patterns.glob("*")):
        yield Deed("patterns/", "kept", "has pattern files")
    else:
        yield _make(root, "patterns/example.yaml", templates.joinpath("example.yaml").read_text("utf-8"))
    yield _make(root, "patterns/pattern.schema.json", _schema())
    yield _configure_pytest(root)
    yield _make(root, ".github/workflows/engram-bench.yml", templates.joinpath("workflow.yml").read_text("utf-8"))
    yield _ignore(root)


def shipped_patterns() -> list[Path]:
    """The shipped pattern files by name: those of the checkout, else those inside the installed package.

    Raises:
        FileNotFoundError: There are neither.
    """
    is_checkout = (PACKAGE.parent / "pyproject.toml").exists()
    folder = PACKAGE.parent / "patterns" if is_checkout else PACKAGE / "shipped_patterns"
    return sorted(path for path in folder.iterdir() if path.suffix == ".yaml")


def _schema() -> str:
    """For editors that complete and check YAML by the first line of a pattern file."""
    from engram_bench.patterns.schema import pattern_schema

    return json.dumps(pattern_schema(), indent=2) + "\n"


def _make(root: Path, name: str, text: str) -> Deed:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return Deed(name, "kept")
    return Deed(name, "made")


def _configure_pytest(root: Path) -> Deed:
    """A second configuration file would hide the first from pytest, so there is at most one."""
    if (config := pytest_config(root)) is not None:
        return Deed(config.name, "kept", "configures pytest; engram_* keys may be added there")
    project = root / "pyproject.toml"
    if project.exists():
        return _append(project, _TOML)
    return _make(root, "pytest.ini", _INI)


def _ignore(root: Path) -> Deed:
    path = root / ".gitignore"
    there = path.read_text("utf-8").splitlines() if path.exists() else []
    names = {line.strip().strip("/") for line in there}
    missing = [line for line in IGNORED if line.strip("/") not in names]
    if not missing:
        return Deed(path.name, "kept")
    return _append(path, "\n".join(missing) + "\n")


def _append(path: Path, text: str) -> Deed:
    """The text at the end of the file, on a line of its own."""
    is_there = path.exists()
    with path.open("a+", encoding="utf-8", newline="") as file:
        file.seek(0)
        before = file.read()
        file.write(("" if not before or before.endswith("\n") else "\n") + text)
    return Deed(path.name, "extended" if is_there else "made")
