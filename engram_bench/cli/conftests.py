"""Matchers that the project's own ``conftest.py`` files register: commands know them as pytest does.

A conftest is code of the user, imported as pytest imports it: from the project's root down to the folder of each pattern file.
None is imported until a pattern file names a matcher that is not known otherwise, so a command that needs none has none of
their side effects. What a conftest prints goes to standard error, where it cannot spoil a JSON document.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

from engram_bench import matchers
from engram_bench.cli.project import Project
from engram_bench.errors import UsageError
from engram_bench.patterns.find import configured_files
from engram_bench.records import PatternSet
from engram_bench.session.options import Settings
from engram_bench.session.sets import load_sets


def sets_of(project: Project, settings: Settings) -> tuple[PatternSet, ...]:
    """The pattern sets of a command's settings, checked one by one and against each other.

    Raises:
        PatternFileError: A path is missing or a file has mistakes; lists the mistakes of all files.
        UsageError: A conftest that may register a matcher cannot be imported.
    """
    return load_sets(settings, project.root, ProjectMatchers(project, settings.patterns))


class ProjectMatchers(Collection[str]):
    """Names of all matchers of a project; a name that is not known imports the project's conftests."""

    def __init__(self, project: Project, patterns: Sequence[Path]) -> None:
        self._project = project
        self._patterns = patterns
        self._is_complete = False

    def __contains__(self, name: object) -> bool:
        return name in matchers.names() or name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> tuple[str, ...]:
        if not self._is_complete:
            self._is_complete = True
            sys.path[:0] = [str(path) for path in self._project.python_path if str(path) not in sys.path]
            for path in conftests(self._project.root, configured_files(self._patterns).values()):
                import_conftest(path, self._project.root)
        return matchers.names()


def conftests(root: Path, files: Iterable[Path]) -> list[Path]:
    """The ``conftest.py`` files of the folders from *root* down to each file, outer ones first; the root's in any case."""
    folders = {root}
    for file in files:
        folders |= {folder for folder in file.absolute().parents if folder.is_relative_to(root)}
    return [path for folder in sorted(folders) if (path := folder / "conftest.py").is_file()]


def import_conftest(path: Path, root: Path) -> None:
    """Import a conftest, and the modules that its ``pytest_plugins`` names, as pytest would.

    Raises:
        UsageError: The import failed; names the line of the conftest.
    """
    from _pytest.pathlib import import_path  # pytest's own way, which knows packages and sys.path

    loaded, folder = sys.modules.get("conftest"), Path.cwd()
    if loaded is not None and loaded.__file__ == str(path):
        return
    sys.modules.pop("conftest", None)  # each folder's has this name, unless the folder is a package
    try:
        with redirect_stdout(sys.stderr):
            module = import_path(path, mode="prepend", root=root, consider_namespace_packages=False)
            plugins = getattr(module, "pytest_plugins", ())
            for name in (plugins,) if isinstance(plugins, str) else plugins:
                import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises: SystemExit and pytest.skip among them
        msg = f"{path}{_line(error, path)}: {type(error).__name__}: {error}, expected a conftest that can be imported"
        raise UsageError(msg) from error
    finally:
        os.chdir(folder)


def _line(error: BaseException, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f":{lines[-1]}" if lines else ""
