"""Completions computed before: one SQLite file that several processes read and write.

A cache and nothing more. Where it cannot be kept (read-only, full, damaged) work goes on without it, and says so once.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from engram_bench.records import Completion, GenerationSettings
from engram_bench.records.plain import canonical_json
from engram_bench.system.warning import warn

STORE_FILE = "completions.sqlite"
STORE_VERSION = 1
"""``PRAGMA user_version`` of the file. A file of another version is moved aside."""

T = TypeVar("T")
_BUSY_TIMEOUT_S = 30.0
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CREATE = """
CREATE TABLE IF NOT EXISTS completions (
    key TEXT PRIMARY KEY,
    text BLOB NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    stop_reason TEXT NOT NULL CHECK (stop_reason IN ('stop', 'length')),
    seconds REAL NOT NULL
) WITHOUT ROWID
"""
_CREATE_FIGURES = "CREATE TABLE IF NOT EXISTS figures (key TEXT PRIMARY KEY, figures TEXT NOT NULL) WITHOUT ROWID"
_SELECT = """
SELECT key, text, prompt_tokens, completion_tokens, stop_reason, seconds
FROM completions WHERE key IN (SELECT value FROM json_each(?))
"""


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
    parts = (model, adapter, template, backend, dtype, tuple(prompt_tokens), settings, version)
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How full a store is."""

    completions: int
    size: int
    """Bytes of the file, write-ahead log included."""


class _Unusable(Exception):
    """The file is not a store of this version; the message says what the file is."""


class CompletionStore:
    """The store in one file, made with its folder if missing. One object for one thread; any number of processes.

    Never raises for what happens to the file: *warn* gets one sentence, :meth:`get_many` finds nothing,
    :meth:`put_many` keeps nothing. A damaged file is moved to ``<name>.damaged`` and a new one begun.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] = warn) -> None:
        self.path = path
        self._warn = warn
        self._connection = self._open()

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The stored completions among *keys*, by key; keys that are not stored are left out."""

        def read(connection: sqlite3.Connection) -> dict[str, Completion]:
            rows = connection.execute(_SELECT, (canonical_json(tuple(keys)),))
            return dict(map(_from_row, rows))

        return self._with_connection(read, {})

    def put_many(self, completions: Mapping[str, Completion]) -> None:
        """Keep all the completions or, if interrupted, none. A key that is stored keeps its first completion."""
        rows = [_to_row(key, completion) for key, completion in completions.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?)", rows)

        self._with_connection(write, None)

    def get_figures(self, keys: Sequence[str]) -> dict[str, list[float]]:
        """The stored figures among *keys*, by key: numbers that were computed from a model's outputs."""

        def read(connection: sqlite3.Connection) -> dict[str, list[float]]:
            query = "SELECT key, figures FROM figures WHERE key IN (SELECT value FROM json_each(?))"
            rows = connection.execute(query, (canonical_json(tuple(keys)),))
            return {key: json.loads(figures) for key, figures in rows}

        return self._with_connection(read, {})

    def put_figures(self, figures: Mapping[str, Sequence[float]]) -> None:
        """Keep all the figures or, if interrupted, none. A key that is stored keeps its first ones."""
        rows = [(key, json.dumps(list(values))) for key, values in figures.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR IGNORE INTO figures VALUES (?, ?)", rows)

        self._with_connection(write, None)

    def stats(self) -> StoreStats:
        """The number of completions and the size of the file; zeros where nothing is kept."""

        def count(connection: sqlite3.Connection) -> StoreStats:
            (number,) = connection.execute("SELECT count(*) FROM completions").fetchone()
            files = (self.path, self._beside("-wal"))
            return StoreStats(number, sum(file.stat().st_size for file in files if file.exists()))

        return self._with_connection(count, StoreStats(0, 0))

    def clear(self) -> int:
        """Delete every completion and figure, free the disk space, and return the number of completions there were."""

        def delete(connection: sqlite3.Connection) -> int:
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
            with suppress(OSError):
                lock_file = self._beside(f".{hashlib.sha256(name.encode()).hexdigest()[:12]}.lock")
                held.enter_context(FileLock(lock_file))
            yield

    def close(self) -> None:
        """Close the file; afterwards the store finds and keeps nothing. Safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> CompletionStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ── trouble ─────────────────────────────────────────────────────────────────────────────────

    def _with_connection(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._connection is None:
            return otherwise
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            self.close()
            if _is_damage(error):
                self._connection = self._open(thorough=True)
            else:
                self._warn(f"{self.path}: {error}; completions are not stored")
            return otherwise

    def _open(self, *, thorough: bool = False) -> sqlite3.Connection | None:
        """A connection to a whole store, after moving a damaged one aside; None where none can be kept."""
        from filelock import FileLock

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Under a lock: of two processes that meet a damaged file, the second must find the first one's new file.
            with FileLock(self._beside(".lock"), timeout=_BUSY_TIMEOUT_S):
                try:
                    return _connect(self.path, thorough=thorough)
                except (_Unusable, sqlite3.DatabaseError) as error:
                    if not _is_damage(error):
                        raise
                    self._move_aside(error)
                    return _connect(self.path, thorough=False)
        except (OSError, sqlite3.Error) as error:
            self._warn(f"{self.path}: {error}; completions are not stored")
            return None

    def _move_aside(self, reason: Exception) -> None:
        aside = self._beside(".damaged")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):  # they belong to the damaged file and would spoil the new one
            self._beside(suffix).unlink(missing_ok=True)
        self._warn(f"{self.path}: {reason}; moved to {aside.name}, completions are computed again")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def _to_row(key: str, each: Completion) -> tuple[object, ...]:
    """The columns of a row; text is stored as bytes because SQLite's text holds no lone surrogate."""
    text = each.text.encode("utf-8", "surrogatepass")
    return (key, text, each.prompt_tokens, each.completion_tokens, each.stop_reason, each.seconds)


def _from_row(row: tuple[Any, ...]) -> tuple[str, Completion]:
    key, text, *rest = row
    return key, Completion(text.decode("utf-8", "surrogatepass"), *rest)


def _connect(path: Path, *, thorough: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last rows, never the file
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and version != STORE_VERSION:
            msg = f"version {version}, expected {STORE_VERSION}"
            raise _Unusable(msg)
        if thorough and (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise _Unusable(found)
        with connection:
            connection.execute(_CREATE)
            connection.execute(_CREATE_FIGURES)
            connection.execute(f"PRAGMA user_version = {STORE_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, _Unusable) or code & 0xFF in _DAMAGED  # the low byte is the primary code
