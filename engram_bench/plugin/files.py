"""Pattern files of a session: each read once, checked by itself and against the others."""

from __future__ import annotations

from pathlib import Path

from engram_bench import matchers
from engram_bench.errors import EngramBenchError
from engram_bench.patterns.load import check_across, find_pattern_files, load_pattern_file
from engram_bench.records import Pattern, PatternSet


class PatternFiles:
    """The pattern files that a process has met, with those that are trained together with them."""

    def __init__(self, root: Path, configured: tuple[Path, ...]) -> None:
        """No files yet.

        Args:
            root: Folder below which paths are shown.
            configured: Files and folders that the settings name.
        """
        self._root = root
        self._configured = configured
        self._sets: dict[Path, PatternSet] = {}
        self._checked: tuple[str, ...] = ()

    def load(self, path: Path) -> PatternSet:
        """The file's pattern set, read once.

        Raises:
            PatternFileError: The file has mistakes.
        """
        if path not in self._sets:
            self._sets[path] = load_pattern_file(path, root=self._root, known_matchers=matchers.names())
        return self._sets[path]

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

    def training_sets(self) -> tuple[PatternSet, ...]:
        """The sets trained on: collected files, and all files of each configured folder that holds a collected file.

        So a selection (``-k``, a node id, one file) neither changes the adapter nor trains another.

        Raises:
            PatternFileError: A file has mistakes.
        """
        paths = set(self._sets)
        for folder in self._configured:
            if folder.is_dir() and any(path.is_relative_to(folder) for path in self._sets):
                paths.update(path for path in find_pattern_files([folder]))
        return tuple(self.load(path) for path in sorted(paths))

    def configured_patterns(self) -> list[tuple[str, Pattern]]:
        """Every pattern of the configured folders with its id, ``<file>/<pattern>``.

        Raises:
            PatternFileError: A file has mistakes.
        """
        existing = [path for path in self._configured if path.exists()]
        sets = [self.load(path) for path in find_pattern_files(existing)]
        return [
            (f"{Path(s.path).stem}/{pattern.id}", pattern) for s in sets if s.kind == "memory" for pattern in s.patterns
        ]

    @property
    def has_held_out(self) -> bool:
        """Whether any pattern met so far has a held-out wording."""
        return any(pattern.held_out for each in self._sets.values() for pattern in each.patterns)
