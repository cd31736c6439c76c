"""Imports go down the building only, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "engram_bench"
FLOORS = (
    {"errors"},
    {"records"},
    {"patterns", "matchers", "stats", "bootstrap", "provenance", "figures", "record_format", "run_format", "durable"},
    {"backends", "models", "memory", "metrics", "pairs", "speed_metrics", "adapter_manifest", "adapter_place"},
    {
        "adapter_store",
        "adapter_exchange",
        "forms",
        "completion_store",
        "evaluate",
        "run_store",
        "speed",
        "reading",
        "routing",
        "sanity",
    },
    {"compare", "gate", "gate_grammar", "speed_history", "sweep", "history", "arm_row"},
    {"reporting"},
    {"options", "plan", "pipeline", "conclusion", "speed_tests", "inspection", "arms"},
    {"plugin", "suite", "speed_suite", "speed_suite_untimed", "cli"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
HEAVY = ("torch", "mlx", "transformers", "peft", "unsloth", "pydantic", "scipy", "numpy", "tokenizers")


def area(path: Path) -> str:
    """The first part of a module's name below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def run_time_imports(tree: ast.AST) -> Iterator[str]:
    """Full names of what is imported, inside functions too, but not for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from run_time_imports(node)


def test_every_module_has_a_floor() -> None:
    homes = {area(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}

    assert homes <= set(FLOOR_OF)


def test_imports_go_down() -> None:
    climbs = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if area(path) not in ("__init__", "__main__")
        for name in run_time_imports(ast.parse(path.read_text("utf-8")))
        if name.startswith("engram_bench.")
        and (target := name.split(".")[1]) != area(path)
        and FLOOR_OF.get(target, -1) > FLOOR_OF[area(path)]
    ]

    assert climbs == []


@pytest.mark.parametrize(
    "module", ["engram_bench", "engram_bench.plugin", "engram_bench.pipeline", "engram_bench.backends"]
)
def test_importing_a_module_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.strip() == "[]"
