"""Files that are either the old one or the whole new one, whatever happens while they are written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from engram_bench.errors import StoreError


def write_atomic(path: Path, text: str) -> None:
    r"""Leave *text* in *path* as UTF-8, creating its folder.

    Written beside it, flushed to disk and renamed over it: nobody ever meets half a file, and after a failure (a full
    disk) the old file is still there. A lone surrogate, which UTF-8 cannot hold, is written as its ``\udc80`` escape.

    Raises:
        StoreError: The place cannot be written (read-only, full, not a folder); names the file and the cause.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync(path.parent)
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error


def sync(path: Path) -> None:
    """Return once a file's content, or the names in a folder, are on the disk and not only in memory.

    Does nothing to a folder on Windows, where folders cannot be flushed.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
