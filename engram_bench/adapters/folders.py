"""Folders of adapters: found by name, locked while they are worked on, renamed into place, set aside before they are deleted."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engram_bench.errors import AdapterError
from engram_bench.system.files import sync
from engram_bench.system.provenance import utc_now
from engram_bench.system.reading import read_text


def find(root: Path, name: str) -> Path:
    """Folder of an adapter: the folder *name* itself, else the one in *root* with this name or with the only name that starts so.

    Raises:
        AdapterError: No adapter matches, or more than one does.
    """
    try:
        path = Path(name).expanduser()
        is_there, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a null byte
        reason = getattr(error, "strerror", None) or error  # the whole error quotes the name again
        msg = f"adapter {name[:80]!r}: {reason}, expected a folder or the name of a stored adapter"
        raise AdapterError(msg) from error
    if is_folder:
        return path
    if is_there:
        msg = f"{path}: a file, expected the folder of an adapter"
        raise AdapterError(msg)
    there = sorted(each.name for each in root.glob("[!.]*") if each.is_dir())
    names = [each for each in there if each.startswith(name)]
    if name in names:
        return root / name
    if len(names) > 1:
        msg = f"{name}: several adapters start so, expected one of {', '.join(names)} in {root}"
        raise AdapterError(msg)
    if not names:
        hub = f"; from the Hub: engram-bench adapter import {name}" if name.count("/") == 1 else ""
        known = f"one of {', '.join(there)}" if there else "a name, but none is stored"
        msg = f"{name}: no such folder, expected an adapter: a folder, or {known} in {root}{hub}"
        raise AdapterError(msg)
    return root / names[0]


@contextmanager
def locked(root: Path, name: str, wait_note: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the adapter's lock; without a *wait_note* a lock that is held raises ``filelock.Timeout``."""
    from filelock import FileLock, Timeout

    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.holder"
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if wait_note is None:
            raise
        wait_note(f"adapter {name}: waiting for {_read(holder) or 'another process'}")
        lock.acquire()
    try:
        with suppress(OSError):  # a courtesy to those who wait: a full disk has an error of its own
            holder.write_text(
                f"process {os.getpid()} on {platform.node()}, which holds it since {utc_now()}", encoding="utf-8"
            )
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _read(holder: Path) -> str:
    """Text of a note beside a lock; empty where there is none, as after a lock has just been given back."""
    try:
        return read_text(holder, errors="replace")
    except OSError:
        return ""


def retrained_in(root: Path, name: str) -> str:
    """Name of the session that last trained the adapter again on request; empty where none did."""
    return _read(root / ".locks" / f"{name}.session")


def note_retrained(root: Path, name: str, session: str | None) -> None:
    """Note the session that trained the adapter again; None forgets an earlier one."""
    path = root / ".locks" / f"{name}.session"
    if session is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(session, encoding="utf-8")


def publish(root: Path, name: str) -> None:
    """Move the adapter from ``.partial`` to its folder: two renames, so that an older one is missing for a moment only."""
    replaced = _set_aside(root, root / name)
    (root / ".partial" / name).rename(root / name)
    sync(root)
    shutil.rmtree(replaced, ignore_errors=True)


def discard(root: Path, folder: Path) -> None:
    """Delete a folder below *root*, if it is there."""
    shutil.rmtree(_set_aside(root, folder), ignore_errors=True)


def _set_aside(root: Path, folder: Path) -> Path:
    """Where a folder, if it was there, now waits to be deleted: half a deletion must not look like an adapter."""
    trash = root / ".trash" / f"{folder.name}-{secrets.token_hex(4)}"
    if folder.exists():
        trash.parent.mkdir(exist_ok=True)
        folder.rename(trash)
    return trash
