"""The pattern sets of a project under its settings."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from engram_bench import matchers
from engram_bench.patterns.load import load_pattern_files
from engram_bench.records import PatternSet
from engram_bench.session.options import Settings


def load_sets(settings: Settings, root: Path, known_matchers: Collection[str] | None = None) -> tuple[PatternSet, ...]:
    """The pattern sets of the settings, checked one by one and against each other, with paths shown below *root*.

    Args:
        settings: Settings that name the files.
        root: Folder below which paths are shown.
        known_matchers: Names that ``match`` may have; None takes those of this process.

    Raises:
        PatternFileError: A path is missing or a file has mistakes; lists the mistakes of all files.
    """
    known = matchers.names() if known_matchers is None else known_matchers
    return load_pattern_files(settings.patterns, root=root, known_matchers=known)
