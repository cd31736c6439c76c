"""Pattern files of a session: each read once, checked by itself and against the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from operator import itemgetter
from pathlib import Path

import pytest

from engram_bench import matchers
from engram_bench.errors import EngramBenchError
from engram_bench.patterns.find import configured_files
from engram_bench.patterns.load import check_across, load_pattern_file
from engram_bench.records import Pattern, PatternSet


def load_conftests(config: pytest.Config, path: Path) -> None:
    """Load the conftests of a pattern file's folders, which may register matchers.

    pytest loads those of the folders that it collects. Each conftest is loaded once.
    """
    config.pluginmanager._loadconftestmodules(
        path.parent,
        config.getoption("importmode"),
        config.rootpath,
        consider_namespace_packages=config.getini("consider_namespace_packages"),
    )


class PatternFiles:
    """The pattern files that a process has met, with those that are trained together with them."""

    def __init__(self, root: Path, configured: tuple[Path, ...], before_load: Callable[[Path], None]) -> None:
        """No files yet.

        Args:
            root: Folder below which paths are shown.
            configured: Files and folders that the settings name.
            before_load: Function that is called with the path of each file before it is read.
        """
        self._root = root
        self._paths = configured
        self._before_load = before_load
        self._sets: dict[Path, tuple[Path, PatternSet]] = {}
        self._checked: tuple[str, ...] = ()
        self._trains_configured = False

    @cached_property
    def configured(self) -> dict[Path, Path]:
        """The files that the settings name: the file behind all links → its path."""
        return configured_files(self._paths)

    def load(self, path: Path) -> PatternSet:
        """The file's pattern set, read once.

        Raises:
            PatternFileError: The file has mistakes.
        """
        real = path.resolve()
        if real not in self._sets:
            self._before_load(path)
            self._sets[real] = path, load_pattern_file(path, root=self._root, known_matchers=matchers.names())
        return self._sets[real][1]

    def check_across(self) -> None:
        """Check the files met so far, and those trained with them, against each other.

        Every file of a conflict is refused: under xdist files without an error would still be run.

        Raises:
            PatternFileError: A prompt has different answers in two files, or a held-out wording of one is trained on by
                another.
        """
        try:
            sets = self.training_sets()
        except EngramBenchError:
            return  # a file with mistakes of its own: these are reported where the file is collected or needed
        paths = tuple(each.path for each in sets)
        if paths != self._checked:
            check_across(sets)
            self._checked = paths

    def train_configured(self) -> None:
        """Train on the configured files whatever was collected: a test of the user asks the candidate."""
        self._trains_configured = True

    def training_sets(self) -> tuple[PatternSet, ...]:
        """The sets trained on: collected files, and all configured files where one of them was collected or is asked about.

        So a selection (``-k``, a node id, one file) neither changes the adapter nor trains another.

        Raises:
            PatternFileError: A file has mistakes.
        """
        if self._trains_configured or not self._sets.keys().isdisjoint(self.configured):
            for path in self.configured.values():
                self.load(path)
        return tuple(pattern_set for _, pattern_set in sorted(self._sets.values(), key=itemgetter(0)))

    def configured_patterns(self) -> list[tuple[str, Pattern]]:
        """Every pattern of the configured files with its id, ``<file>/<pattern>``.

        Raises:
            PatternFileError: A file has mistakes.
        """
        sets = [self.load(path) for path in sorted(self.configured.values())]
        return [
            (f"{Path(s.path).stem}/{pattern.id}", pattern) for s in sets if s.kind == "memory" for pattern in s.patterns
        ]

    @property
    def has_held_out(self) -> bool:
        """Whether any pattern met so far has a held-out wording."""
        return any(pattern.held_out for _, each in self._sets.values() for pattern in each.patterns)
