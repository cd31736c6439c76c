"""Atomic writes: a file is either the old one or the complete new one, whatever happens during the write."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engram_bench.door import scrubbed
from engram_bench.errors import StoreError, UsageError


def write_atomic(path: Path, text: str) -> None:
    r"""Write *text* to *path* as UTF-8, and create the folder where it is missing.

    No reader ever sees half a file, and after a failure such as a full disk the old file is still there. A lone surrogate,
    which UTF-8 cannot hold, is written as its ``\udc80`` escape, and a secret of this process as ``HIDDEN``.

    Raises:
        StoreError: As :func:`replacing`.
    """
    with replacing(path) as file:
        file.write(scrubbed(text).encode("utf-8", "backslashreplace"))


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file, open for writing, that replaces *path* when the block ends without an error.

    The new file stands beside *path* and is renamed. After a failure, such as a full disk, it is deleted and *path* is what it
    was. The folder is created where it is missing.

    Args:
        path: File to replace.
        durable: Whether to wait until file and name are on the disk, so that a power cut cannot lose them.

    Raises:
        StoreError: The file cannot be written (read-only, full, not a folder); the message names the file and the cause.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if durable:
            sync(path.parent)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error


def expanded(text: str) -> Path:
    """The path in a text, with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        UsageError: There is no such user, or this user has no home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        msg = f"{text}: no such user or no home folder, expected a path"
        raise UsageError(msg) from error


def sync(path: Path) -> None:
    """Wait until the content of a file, or the list of names in a folder, is on the disk and not only in memory.

    On Windows, where folders cannot be flushed, a folder is left alone.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
