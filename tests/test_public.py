"""What users may import from ``engram_bench`` itself."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import engram_bench
from engram_bench import errors

PUBLIC = {
    "__version__",
    "Case",
    "Comparison",
    "Run",
    "Score",
    "compare",
    "load_patterns",
    "match",
    "parse_gate",
    "register_matcher",
    *(name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__),
}
NAMES = sorted(PUBLIC - {"__version__"})


def test_public_names_are_these() -> None:
    assert set(engram_bench.__all__) == PUBLIC
    assert set(dir(engram_bench)) >= PUBLIC


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_importable_and_documented(name: str) -> None:
    found = getattr(engram_bench, name)

    assert found.__module__.startswith("engram_bench.")
    assert inspect.getdoc(found)


@pytest.mark.parametrize("name", NAMES)
def test_type_checkers_see_what_is_imported(name: str) -> None:
    """The imports for type checkers and those at run time are written apart."""
    tree = ast.parse(Path(engram_bench.__file__).read_text("utf-8"))
    typed = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = getattr(engram_bench, name)

    assert typed[name] == (found.__module__, found.__qualname__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'engram_bench' has no attribute 'nothing'"):
        _ = engram_bench.nothing


def test_version_is_that_of_the_package() -> None:
    assert engram_bench.__version__.count(".") == 2
