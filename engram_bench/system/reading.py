"""Files that others may have written, read within bounds: the one door for every reader of the package.

A path is opened without waiting and must be a regular file: a named pipe would hang, a device would never end. Size, depth
and numbers have bounds that are checked before anything is built from the content. What breaks a bound is an ``OSError``
(the file) or a ``ValueError`` (its content), which each reader turns into its own error with the path in front.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

MIB = 2**20
MAX_TEXT_BYTES = 16 * MIB
"""Largest file of settings: a configuration, a manifest, a template, an index."""
MAX_DEPTH = 64
"""Deepest nesting of JSON; the deepest file of any known tool has a dozen levels."""
MAX_DIGITS = 300
"""Longest whole number of JSON, in digits: as a float it is still finite. Tokenizers state lengths of 31 digits."""
MAX_VALUES = 3_000_000
"""Most values of a JSON text as :func:`check_values` weighs them, so that a small file cannot become gigabytes of objects."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))


def open_regular(path: Path, *, inside: Path | None = None) -> BufferedReader:
    """The file, open for reading in binary.

    Args:
        path: File to open; links are followed.
        inside: Folder that the file must stay in when its links are followed; None lets links lead anywhere.

    Raises:
        OSError: The file is missing, is no regular file, or is a link that leaves the folder.
    """
    if inside is not None:
        check_inside(path, inside)
    _check_kind(path.stat().st_mode, path)  # opening a device may already change it
    flags = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    try:
        _check_kind(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path, *, inside: Path | None = None) -> int:
    """The size of a regular file in bytes, for a library that opens the file itself.

    Raises:
        OSError: As :func:`open_regular`.
    """
    if inside is not None:
        check_inside(path, inside)
    found = path.stat()
    _check_kind(found.st_mode, path)
    return found.st_size


def check_inside(path: Path, folder: Path) -> None:
    """Check that a path, its links followed, is inside a folder or in the store of the Hub's cache that the folder belongs to.

    Raises:
        OSError: The path leads elsewhere.
    """
    if not path.is_symlink() and path.parent == folder:
        return
    target, root = path.resolve(), folder.resolve()
    # <cache>/models--org--name/snapshots/<revision>/ holds links to <cache>/models--org--name/blobs/
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root
    if not (target.is_relative_to(root) or target.is_relative_to(blobs)):
        reason = f"a link to {target}, expected a file inside the folder"
        raise OSError(errno.EPERM, reason, str(path))


def read_bytes(path: Path, *, limit: int = MAX_TEXT_BYTES, inside: Path | None = None) -> bytes:
    """The content of a regular file of at most *limit* bytes.

    Raises:
        OSError: The file is missing, is no regular file, leaves *inside*, or is larger.
    """
    with open_regular(path, inside=inside) as file:
        data = file.read(limit + 1)
        if len(data) > limit:
            size = max(os.fstat(file.fileno()).st_size, len(data))
            raise OSError(errno.EFBIG, f"{size:,} bytes, expected at most {limit:,}", str(path))
    return data


def read_text(path: Path, *, limit: int = MAX_TEXT_BYTES, inside: Path | None = None, errors: str = "strict") -> str:
    r"""The content of a file as UTF-8 text with ``\n`` as line ends.

    Raises:
        OSError: As :func:`read_bytes`.
        ValueError: The file is not UTF-8.
    """
    text = read_bytes(path, limit=limit, inside=inside).decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_json(path: Path, *, limit: int = MAX_TEXT_BYTES, inside: Path | None = None) -> Any:
    """The JSON value in a file.

    Raises:
        OSError: As :func:`read_bytes`.
        ValueError: As :func:`parse_json`.
    """
    return parse_json(read_bytes(path, limit=limit, inside=inside))


def parse_json(
    data: bytes | str,
    *,
    deepest: int = MAX_DEPTH,
    most_values: int = MAX_VALUES,
    pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The value of a JSON text, with bounds on depth and numbers.

    Args:
        data: Text, or its bytes in UTF-8.
        deepest: Most levels of lists and objects.
        most_values: Most values, see :func:`check_values`.
        pairs_hook: Function that makes an object of its keys and values; None makes a ``dict``.

    Raises:
        ValueError: The text is not JSON or not UTF-8, is nested too deeply, has too many values, or has a number of more than
            :data:`MAX_DIGITS` digits. Errors of *pairs_hook* pass through.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    check_values(raw, most_values)
    # A hook for numbers makes parsing slower, so there is one only where a long row of digits stands somewhere.
    read_int = _bounded_int if b"0" * MAX_DIGITS in raw.translate(_DIGITS) else None
    text = raw.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        value = json.loads(text, object_pairs_hook=pairs_hook, parse_int=read_int)
    except RecursionError:
        _raise_deep(deepest)
    if _may_be_deep(raw, deepest):
        check_depth(value, deepest)
    return value


def check_values(raw: bytes, most: int) -> None:
    """Check that a JSON text has at most so many values, where a list or an object weighs four times as much as another value.

    Commas and brackets are counted, those inside texts as well. Nothing is built.

    Raises:
        ValueError: The text has more.
    """
    if len(raw) > most and (found := raw.count(b",") + 4 * (raw.count(b"[") + raw.count(b"{"))) > most:
        msg = f"{found:,} values, expected at most {most:,}"
        raise ValueError(msg)


def check_depth(value: Any, deepest: int = MAX_DEPTH) -> None:
    """Check that lists and mappings are nested at most *deepest* levels, without recursion.

    Raises:
        ValueError: They are nested deeper.
    """
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(deepest):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    if level:
        _raise_deep(deepest)


def sha256_of(path: Path, *, inside: Path | None = None) -> str:
    """SHA-256 (hex) of the content of a regular file.

    Raises:
        OSError: As :func:`open_regular`.
    """
    with open_regular(path, inside=inside) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_kind(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        reason = f"{_KINDS.get(stat.S_IFMT(mode), 'no regular file')}, expected a regular file"
        raise OSError(errno.EINVAL, reason, str(path))


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        msg = f"a number of {len(digits)} digits, expected at most {MAX_DIGITS}"
        raise ValueError(msg)
    return int(digits)


def _may_be_deep(raw: bytes, deepest: int) -> bool:
    """Whether a text is possibly nested deeper than allowed; brackets inside strings are counted, too."""
    brackets = raw.translate(None, _NOT_BRACKETS)
    for _ in range(deepest):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets)


def _raise_deep(deepest: int) -> NoReturn:
    msg = f"nested deeper than {deepest} levels"
    raise ValueError(msg)
