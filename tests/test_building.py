"""Imports go down the storeys only, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import engram_bench

PACKAGE = Path(engram_bench.__file__).parent
STOREYS = (
    {"door"},
    {"errors", "stats"},
    {"records", "system"},
    {"matchers", "models"},
    {"patterns", "scoring"},
    {"memory", "runs"},
    {"adapters"},
    {"backends"},
    {"inference"},
    {"routing", "speed"},
    {"reporting"},
    {"session"},
    {"plugin", "cli"},
)
"""Rooms from the ground up. A room imports only rooms of lower storeys."""
STOREY_OF = {room: storey for storey, rooms in enumerate(STOREYS) for room in rooms}
DOORS = {"__init__", "__main__"}
"""The package's public names and its command, which stand above every room."""
HEAVY = ("torch", "mlx", "transformers", "peft", "unsloth", "pydantic", "scipy", "numpy", "tokenizers")


def module_name(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def own_imports(path: Path) -> set[str]:
    """Modules of the package that a file imports: at its top, inside functions, and for type checkers alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def room(module: str) -> str:
    """The part of a module's name that follows the package's."""
    return ([*module.split("."), "__init__"])[1]


@cache
def imports() -> dict[str, set[str]]:
    """What each module of the package imports of it; reading every file takes a second, which no collection waits for."""
    return {module: own_imports(path) - {module} for module, path in MODULES.items()}


def test_every_room_has_a_storey() -> None:
    assert {room(module) for module in MODULES} - DOORS == STOREY_OF.keys()


def test_a_room_imports_only_lower_storeys() -> None:
    climbs = [
        f"{module} imports {target}"
        for module, targets in imports().items()
        for target in targets
        if room(module) not in DOORS
        and room(target) not in {room(module), "__init__"}
        and STOREY_OF[room(target)] >= STOREY_OF[room(module)]
    ]

    assert climbs == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(imports()).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize(
    "module", ["engram_bench", "engram_bench.plugin", "engram_bench.session.bench", "engram_bench.backends.registry"]
)
def test_importing_a_module_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"


def test_pytest_in_a_project_without_patterns_loads_hooks_and_options_alone(tmp_path: Path) -> None:
    code = (
        "import sys, pytest; pytest.main(['-q', '--collect-only', '-p', 'engram_bench.plugin', '-p', 'no:cacheprovider'])\n"
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('engram_bench.')}))"
    )
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(PACKAGE.parent)}

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    ).stdout

    assert loaded.splitlines()[-1] == "['adapters', 'backends', 'door', 'errors', 'plugin', 'session', 'system']"
