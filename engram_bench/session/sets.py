"""The pattern sets of a project under its settings."""

from __future__ import annotations

from pathlib import Path

from engram_bench import matchers
from engram_bench.patterns.load import load_pattern_files
from engram_bench.records import PatternSet
from engram_bench.session.options import Settings


def load_sets(settings: Settings, root: Path) -> tuple[PatternSet, ...]:
    """The pattern sets of the settings, checked one by one and against each other, with paths shown below *root*.

    Raises:
        PatternFileError: A path is missing or a file has mistakes; lists the mistakes of all files.
    """
    return load_pattern_files(settings.patterns, root=root, known_matchers=matchers.names())
