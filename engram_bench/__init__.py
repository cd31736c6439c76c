"""A test-first benchmark suite for tuned language models, as a pytest plugin.

The names listed in ``__all__`` are the public interface, beside the fixtures, the options and the keys of pattern files:
everything else may move. Each name is imported when it is first used, so ``import engram_bench`` stays light and never
imports torch, mlx or transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engram_bench.errors import (
        AdapterError,
        BackendError,
        BackendUnavailable,
        EngramBenchError,
        GateSyntaxError,
        ModelError,
        PatternFileError,
        StoreError,
        UnsupportedError,
        UsageError,
    )
    from engram_bench.matchers.registry import match
    from engram_bench.matchers.registry import register as register_matcher
    from engram_bench.patterns.load import load_pattern_files as load_patterns
    from engram_bench.records.answers import Score
    from engram_bench.records.comparison import Comparison
    from engram_bench.records.patterns import Case
    from engram_bench.records.runs import Run
    from engram_bench.scoring.comparison import compare
    from engram_bench.scoring.gate_grammar import parse_gate

__version__ = "0.1.0"
__all__ = [
    "AdapterError",
    "BackendError",
    "BackendUnavailable",
    "Case",
    "Comparison",
    "EngramBenchError",
    "GateSyntaxError",
    "ModelError",
    "PatternFileError",
    "Run",
    "Score",
    "StoreError",
    "UnsupportedError",
    "UsageError",
    "__version__",
    "compare",
    "load_patterns",
    "match",
    "parse_gate",
    "register_matcher",
]

_HOMES = {
    "Case": "records.patterns.Case",
    "Comparison": "records.comparison.Comparison",
    "Run": "records.runs.Run",
    "Score": "records.answers.Score",
    "compare": "scoring.comparison.compare",
    "load_patterns": "patterns.load.load_pattern_files",
    "match": "matchers.registry.match",
    "parse_gate": "scoring.gate_grammar.parse_gate",
    "register_matcher": "matchers.registry.register",
}
"""Public name → where the package defines it; a name that is not here is an error class."""


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module, _, attribute = _HOMES.get(name, f"errors.{name}").rpartition(".")
    found: object = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
