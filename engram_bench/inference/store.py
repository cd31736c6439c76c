"""Completions computed before: one SQLite file that several processes read and write.

A cache and nothing more. Where it cannot be kept (read-only, full, damaged) work goes on without it, and says so once.
"""

from __future__ import annotations

import ctypes
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from engram_bench.inference.store_file import (
    BUSY_TIMEOUT_S,
    FAULTS,
    Connection,
    Unusable,
    completion_of,
    completion_row,
    connect,
    figures_of,
    figures_row,
    is_damage,
)
from engram_bench.records import Completion, GenerationSettings
from engram_bench.records.plain import canonical_json, to_plain
from engram_bench.system.warning import warn

STORE_FILE = "completions.sqlite"

T = TypeVar("T")
_SELECT = """
SELECT key, text, prompt_tokens, completion_tokens, stop_reason, seconds, checksum
FROM completions WHERE key IN (SELECT value FROM json_each(?))
"""
_SELECT_FIGURES = "SELECT key, figures, checksum FROM figures WHERE key IN (SELECT value FROM json_each(?))"


def completion_key(
    *,
    model: str,
    adapter: str,
    template: str,
    backend: str,
    dtype: str,
    prompt_tokens: Sequence[int],
    settings: GenerationSettings,
    version: str,
) -> str:
    """64 hex digits, equal only where the same completion must come out.

    Args:
        model: Fingerprint of the base weights.
        adapter: Content fingerprint of the adapter (a retrained adapter keeps its name), with its form or route; empty for
            the bare model.
        template: Fingerprint of the chat template.
        backend: Name of the backend.
        dtype: Data type of the weights; another type may lead to another token.
        prompt_tokens: Token ids of the prompt in the chat template.
        settings: Generation settings. All of them count, the number of the sample included, so one sample is never served
            as another; in greedy decoding seed and *top_p* do not count.
        version: Versions of everything else that decides the text, such as the backend's library.
    """
    if settings.temperature == 0:
        settings = replace(settings, seed=0, top_p=1.0)
    drawn = to_plain(settings)
    if settings.max_reasoning_tokens is None:
        del drawn["max_reasoning_tokens"]  # answers from before this setting existed keep their keys
    parts = (model, adapter, template, backend, dtype, tuple(prompt_tokens), drawn, version)
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How full a store is."""

    completions: int
    size: int
    """Bytes of the file, write-ahead log included."""


class CompletionStore:
    """The store in one file, made with its folder if missing. One object for one thread; any number of processes.

    Never raises for what happens to the file: *warn* gets one sentence, :meth:`get_many` finds nothing,
    :meth:`put_many` keeps nothing. A damaged file is moved to ``<name>.damaged`` and a new one begun, once for all processes
    that have it open.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] = warn) -> None:
        self.path = path
        self._warn = warn
        self._connection: Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._open()

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The stored completions among *keys*, by key; keys that are not stored are left out."""

        def read(connection: sqlite3.Connection) -> dict[str, Completion]:
            rows = connection.execute(_SELECT, (canonical_json(tuple(keys)),))
            return dict(map(completion_of, rows))

        return self._with_connection(read, {})

    def put_many(self, completions: Mapping[str, Completion]) -> None:
        """Keep all the completions or, if interrupted, none. A key that is stored keeps its first completion."""
        rows = [completion_row(key, completion) for key, completion in completions.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

        self._with_connection(write, None)

    def get_figures(self, keys: Sequence[str]) -> dict[str, list[float]]:
        """The stored figures among *keys*, by key: numbers that were computed from a model's outputs."""

        def read(connection: sqlite3.Connection) -> dict[str, list[float]]:
            rows = connection.execute(_SELECT_FIGURES, (canonical_json(tuple(keys)),))
            return dict(map(figures_of, rows))

        return self._with_connection(read, {})

    def put_figures(self, figures: Mapping[str, Sequence[float]]) -> None:
        """Keep all the figures or, if interrupted, none. A key that is stored keeps its first ones."""
        rows = [figures_row(key, list(values)) for key, values in figures.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR IGNORE INTO figures VALUES (?, ?, ?)", rows)

        self._with_connection(write, None)

    def stats(self) -> StoreStats:
        """The number of completions and the size of the file; zeros where nothing is kept."""

        def count(connection: sqlite3.Connection) -> StoreStats:
            (number,) = connection.execute("SELECT count(*) FROM completions WHERE key IS NOT NULL").fetchone()
            return StoreStats(number, sum(map(_size, (self.path, self._beside("-wal")))))

        return self._with_connection(count, StoreStats(0, 0))

    def clear(self) -> int:
        """Delete every completion and figure, free the disk space, and return the number of completions there were."""

        def delete(connection: sqlite3.Connection) -> int:
            if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise Unusable(found)
            with connection:
                number = connection.execute("DELETE FROM completions").rowcount
                connection.execute("DELETE FROM figures")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return number

        return self._with_connection(delete, 0)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock *name* (a model with its adapter): a process that waited for it finds the answers stored.

        Where the folder cannot be written nothing is stored, so there is nothing to wait for and nothing is held.
        """
        from filelock import FileLock

        with ExitStack() as held:
            with suppress(OSError, NotImplementedError):
                lock_file = self._beside(f".{hashlib.sha256(name.encode()).hexdigest()[:12]}.lock")
                held.enter_context(FileLock(lock_file))
            yield

    def close(self) -> None:
        """Close the file; afterwards the store finds and keeps nothing. Safe to call twice."""
        if self._connection is not None and self._identity() != self._opened:
            self._leave()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> CompletionStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ── trouble ─────────────────────────────────────────────────────────────────────────────────

    def _with_connection(self, work: Callable[[Connection], T], otherwise: T) -> T:
        """What *work* gives; after a damaged file was moved aside, what it gives with the new one."""
        if self._connection is not None and self._identity() != self._opened:
            self._leave()  # another process has moved the file aside
            self._open()
        for is_again in (False, True):
            if self._connection is None:
                return otherwise
            try:
                self._connection.begin()
                return work(self._connection)
            except FAULTS as error:
                if not is_damage(error) or is_again:
                    self.close()
                    self._warn(f"{self.path}: {error}; completions are not stored")
                    return otherwise
                self._replace(error)
        return otherwise

    def _open(self, damage: Exception | None = None) -> None:
        """Connect to a whole store, after moving a damaged one aside; to none where none can be kept.

        Args:
            damage: What is wrong with the file that this object had open; None finds out when connecting.
        """
        from filelock import FileLock

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Under a lock: of two processes that meet a damaged file, the second must find the first one's new file.
            with FileLock(self._beside(".lock"), timeout=BUSY_TIMEOUT_S):
                if damage is not None and self._identity() == self._opened:
                    self._move_aside(damage)
                try:
                    self._connection = connect(self.path, thorough=damage is not None)
                except FAULTS as error:
                    if not is_damage(error):
                        raise
                    self._move_aside(error)
                    self._connection = connect(self.path, thorough=False)
                self._opened = self._identity()
        except (OSError, NotImplementedError, *FAULTS) as error:  # filelock lacks some file systems
            self._warn(f"{self.path}: {error}; completions are not stored")

    def _replace(self, damage: Exception) -> None:
        self._leave()
        self._open(damage)

    def _leave(self) -> None:
        """Forget the connection without closing it.

        SQLite deletes the write-ahead log by its name when a file is closed. The name may be that of the new file's log by
        now, so the object lives until the process ends.
        """
        if self._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None

    def _identity(self) -> tuple[int, int] | None:
        """Device and number of the file that has the store's name now; None where there is none."""
        with suppress(OSError):
            found = self.path.stat()
            return found.st_dev, found.st_ino
        return None

    def _move_aside(self, reason: Exception) -> None:
        aside = self._beside(".damaged")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):  # they belong to the damaged file and would spoil the new one
            self._beside(suffix).unlink(missing_ok=True)
        self._warn(f"{self.path}: {reason}; moved to {aside.name}, completions are computed again")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0
