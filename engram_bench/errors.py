"""Every error this package raises on purpose.

EngramBenchError
├── UsageError            an option, ini key or argument (exit status 2; shown as pytest's own UsageError)
│   └── GateSyntaxError
├── PatternFileError      a pattern file breaks its schema; lists all mistakes of the file
├── ModelError            a model reference, download or conversion
├── AdapterError          a stored or imported adapter
├── BackendError          a backend cannot run here, or failed while it ran
│   └── BackendUnavailable
├── StoreError            a run or completion file cannot be read or written
└── UnsupportedError      this generator or backend lacks an optional ability

A message says where, what was found and what was expected, in that order. It quotes files, servers and models, so its
text is always inert (:mod:`engram_bench.door`), wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engram_bench.door import inert


class EngramBenchError(Exception):
    """Root of the tree: a handler of this class catches every error that a user can cause."""

    def __str__(self) -> str:
        return inert(super().__str__())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class UsageError(EngramBenchError):
    """An option, ini key or argument has a value that cannot be used."""


class GateSyntaxError(UsageError):
    """A gate expression does not follow the grammar; the message quotes the expression and shows the grammar."""


class PatternFileError(EngramBenchError):
    """A pattern file breaks its schema; the message lists every mistake of the file, one per line."""

    def __init__(self, path: Path | str, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(f"{path}: {mistake}" for mistake in mistakes))
        self.path = path
        """File or folder with the mistakes."""
        self.mistakes = tuple(mistakes)
        """Mistakes in order of lines, each with its line where it has one."""


class ModelError(EngramBenchError):
    """A model reference cannot be turned into a local folder of weights."""


class AdapterError(EngramBenchError):
    """A stored or imported adapter does not hold what its manifest or the recipe says."""


class BackendError(EngramBenchError):
    """A backend failed while training or answering."""


class BackendUnavailable(BackendError):
    """A backend cannot run on this machine; the message names what is missing and the pip command."""


class StoreError(EngramBenchError):
    """A run or completion file cannot be read or written."""


class UnsupportedError(EngramBenchError):
    """A generator or backend lacks an optional ability."""
