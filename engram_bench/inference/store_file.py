"""The SQLite file of a completion store: opened with nothing in it trusted, and rows that carry a checksum.

A file that does not hold exactly the tables of this version, or whose rows are not what their checksums say, is damaged.
Nothing that its schema might run (views, triggers, functions in defaults) is accepted.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from pathlib import Path
from typing import Any

from engram_bench.records import Completion
from engram_bench.system.reading import MIB, check_regular, parse_json

STORE_VERSION = 2
"""``PRAGMA user_version`` of the file. A file of another version is moved aside."""
BUSY_TIMEOUT_S = 30.0
MAX_VALUE_BYTES = 64 * MIB
"""Longest value of a row."""
STEP = 1_000_000
"""Instructions of SQLite between two looks at the bound."""
MAX_STEPS = 500
"""Most steps of one piece of work, some 10 s: a table whose pages refer to each other would never end."""

_TABLES = {
    "completions": """CREATE TABLE completions (
    key TEXT PRIMARY KEY,
    text BLOB NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    stop_reason TEXT NOT NULL,
    seconds REAL NOT NULL,
    checksum BLOB NOT NULL
) WITHOUT ROWID""",
    "figures": """CREATE TABLE figures (
    key TEXT PRIMARY KEY,
    figures TEXT NOT NULL,
    checksum BLOB NOT NULL
) WITHOUT ROWID""",
}
_ENVIRONMENT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_PROTOCOL,
}
"""Primary error codes that say nothing about the file's content."""


class Unusable(Exception):
    """The file is not a store of this version, or a row is not what was stored; the message says what was found."""


class Connection(sqlite3.Connection):
    """A connection whose work has a bound in instructions."""

    _steps = 0

    def begin(self) -> None:
        """Begin a piece of work."""
        self._steps = 0
        self.set_progress_handler(self._is_used_up, STEP)

    def _is_used_up(self) -> bool:
        self._steps += 1
        return self._steps > MAX_STEPS


FAULTS = (sqlite3.Error, Unusable, UnicodeDecodeError, MemoryError, OverflowError)
"""What work with a file may raise; SQLite's own messages quote the file, and may be no text."""


def connect(path: Path, *, thorough: bool) -> Connection:
    """A connection to the store in a file, which is created where it is missing.

    Args:
        path: File of the store, whose folder exists.
        thorough: Whether to check the structure of every page.

    Raises:
        Unusable: The file is something else than a store of this version.
        sqlite3.Error: The file is damaged or cannot be opened; :func:`is_damage` tells which.
    """
    if path.exists():
        try:
            check_regular(path)
        except OSError as error:
            raise Unusable(error.strerror or str(error)) from error
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, factory=Connection)
    try:
        _distrust(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last rows, never the file
        _create(connection)
        if thorough and (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise Unusable(found)
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: Exception) -> bool:
    """Whether an error is about the content of the file, and not about disk, permission or another process."""
    if not isinstance(error, sqlite3.Error):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _ENVIRONMENT  # the primary code


# ── rows ────────────────────────────────────────────────────────────────────────────────────────


def completion_row(key: str, each: Completion) -> tuple[object, ...]:
    """The columns of a completion; text is stored as bytes because SQLite's text holds no lone surrogate."""
    text = each.text.encode("utf-8", "surrogatepass")
    row = (key, text, each.prompt_tokens, each.completion_tokens, each.stop_reason, float(each.seconds))
    return (*row, _checksum(row))


def completion_of(row: tuple[Any, ...]) -> tuple[str, Completion]:
    """The key and the completion of a row.

    Raises:
        Unusable: The row is not what :func:`completion_row` made.
    """
    *values, checksum = row
    if checksum != _checksum(tuple(values)):
        raise Unusable("a completion differs from its checksum")
    key, text, prompt_tokens, completion_tokens, stop_reason, seconds = values
    is_whole = (
        (type(key), type(text), type(seconds)) == (str, bytes, float)
        and all(type(count) is int and count >= 0 for count in (prompt_tokens, completion_tokens))
        and stop_reason in ("stop", "length")
        and math.isfinite(seconds)
    )
    try:
        said = text.decode("utf-8", "surrogatepass") if is_whole else None
    except UnicodeDecodeError:
        said = None
    if said is None:
        raise Unusable("a completion has values of other types")
    return key, Completion(said, prompt_tokens, completion_tokens, stop_reason, seconds)


def figures_row(key: str, values: list[float]) -> tuple[object, ...]:
    """The columns of figures."""
    row = (key, json.dumps(values))
    return (*row, _checksum(row))


def figures_of(row: tuple[Any, ...]) -> tuple[str, list[float]]:
    """The key and the figures of a row.

    Raises:
        Unusable: The row is not what :func:`figures_row` made.
    """
    key, figures, checksum = row
    if checksum != _checksum((key, figures)):
        raise Unusable("figures differ from their checksum")
    try:
        values = parse_json(figures)
    except (TypeError, ValueError, AttributeError) as error:
        raise Unusable("figures are no list of numbers") from error
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise Unusable("figures are no list of numbers")
    return key, values


def _checksum(row: tuple[object, ...]) -> bytes:
    """16 bytes that depend on every value of a row and its type."""
    return hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest()


# ── schema ──────────────────────────────────────────────────────────────────────────────────────


def _distrust(connection: Connection) -> None:
    """Let the file's schema run nothing, and let no statement grow without bound."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    connection.begin()
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 1)  # VACUUM attaches a database of its own
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file, and accept of a file that is not empty these tables only."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        if not found and version == 0:
            for sql in _TABLES.values():
                connection.execute(sql)
            connection.execute(f"PRAGMA user_version = {STORE_VERSION}")
        elif version != STORE_VERSION:
            msg = f"version {version}, expected {STORE_VERSION}"
            raise Unusable(msg)
        elif sorted(found) != sorted(("table", name, sql) for name, sql in _TABLES.items()):
            strange = next(
                (f"{kind} {name}" for kind, name, sql in found if _TABLES.get(name) != sql), "a missing table"
            )
            msg = f"{strange[:60]} in the schema, expected the tables {' and '.join(_TABLES)} alone"
            raise Unusable(msg)
