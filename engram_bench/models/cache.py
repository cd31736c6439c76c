"""The cache of a user: folders that one process builds once, completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engram_bench.errors import ModelError
from engram_bench.system.files import expanded
from engram_bench.system.progress import Progress
from engram_bench.system.reading import read_json

CACHE_VARIABLE = "ENGRAM_BENCH_CACHE"
"""Environment variable with the folder of the cache."""
_MARKER = "complete.json"


def default_cache_dir() -> Path:
    """Folder for models and answers: ``ENGRAM_BENCH_CACHE``, else the user's cache folder on this platform.

    Raises:
        ModelError: There is no home folder.
        UsageError: The variable names a user that there is not.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return expanded(chosen).absolute()
    from platformdirs import user_cache_path

    with suppress(RuntimeError):
        found = user_cache_path("engram-bench", appauthor=False)
        if found.is_absolute():  # older versions of the library leave the ~ where there is no home folder
            return found
    msg = f"no home folder for models and answers, expected one; set {CACHE_VARIABLE} to a folder"
    raise ModelError(msg)


def build_once(target: Path, build: Callable[[Path], None], *, progress: Progress) -> Path:
    """The folder *target*, which *build* fills unless it is complete.

    *build* fills a new folder beside *target*, which is renamed when it is complete; an interruption leaves nothing. Other
    processes wait. A folder that lacks a file, or part of one, is built again.

    Args:
        target: Folder in the cache.
        build: Function that fills the folder it gets.
        progress: Function that learns that another process builds the folder.

    Raises:
        ModelError: The cache cannot be written. Other errors of *build* pass through.
    """
    if is_complete(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, progress):
            if not is_complete(target):
                _build(target, build)
    except OSError as error:
        msg = f"{target}: cannot be written ({error}), expected a writable cache with room; set {CACHE_VARIABLE} to one"
        raise ModelError(msg) from error
    return target


@contextmanager
def _locked(target: Path, progress: Progress) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("wait", 0, 1, f"another process prepares {target.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(target: Path, build: Callable[[Path], None]) -> None:
    partial = target.with_name(f".partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)  # remains of a killed process, since this process holds the lock
    partial.mkdir()
    try:
        build(partial)
        sizes = {path.name: path.stat().st_size for path in partial.iterdir()}
        (partial / _MARKER).write_text(json.dumps(sizes, indent=2, sort_keys=True), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def is_complete(folder: Path) -> bool:
    """Whether :func:`build_once` finished this folder and every file has kept its size."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        sizes = read_json(folder / _MARKER)
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    return False
