"""The store of saved runs: ``reports/runs/NNNN-<UTC time>-<commit>.json``, a file per session, numbered in order."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from engram_bench.errors import StoreError, UsageError
from engram_bench.records import Provenance, Run
from engram_bench.runs.format import run_from_json, run_to_json
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import MIB, read_bytes

__all__ = ["find_run", "list_runs", "load_run", "save_run", "write_atomic"]

_NAME = re.compile(r"(\d{4,})-[0-9A-Za-z-]+\.json")
_LOCK_TIMEOUT_S = 60.0
MAX_RUN_BYTES = 256 * MIB
"""Largest run file that is read, twice that of 100,000 cases."""


def save_run(run: Run, report_dir: Path) -> Run:
    """The run under its new name, saved as ``report_dir/runs/<name>.json``.

    Existing files are never changed, and two processes that save at the same time get two numbers.

    Raises:
        StoreError: The folder cannot be written or the disk is full. Older runs stay, and no half file is left.
    """
    from filelock import FileLock, Timeout

    folder = report_dir / "runs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=_LOCK_TIMEOUT_S):
            number = max(map(_number, list_runs(report_dir)), default=0) + 1
            named = replace(run, name=f"{number:04d}-{_stamp(run.provenance)}")
            write_atomic(folder / f"{named.name}.json", run_to_json(named))
    except (OSError, Timeout) as error:
        msg = f"{folder}: runs cannot be saved here: {getattr(error, 'strerror', None) or error}"
        raise StoreError(msg) from error
    return named


def load_run(path: Path) -> Run:
    """The run in *path*, with the file's stem as its name.

    Raises:
        StoreError: The file cannot be read, is cut, is not a run or has another schema; the message names the file.
    """
    try:
        run = run_from_json(read_bytes(path, limit=MAX_RUN_BYTES))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error
    except ValueError as error:
        msg = f"{path}: not a complete run: {error}"
        raise StoreError(msg) from error
    return replace(run, name=path.stem)


def list_runs(report_dir: Path) -> tuple[Path, ...]:
    """Files of the saved runs, oldest first; empty where there are none. Other files in the folder are left out."""
    folder = report_dir / "runs"
    return tuple(sorted((path for path in folder.glob("*.json") if _NAME.fullmatch(path.name)), key=_number))


def find_run(report_dir: Path, reference: str | int) -> Path:
    """The file of a saved run.

    Args:
        report_dir: Folder of the reports.
        reference: ``latest``, a number (``12`` or ``0012``), a name, or the path of a file.

    Raises:
        UsageError: There is no such run; the message names the runs that exist.
    """
    runs = list_runs(report_dir)
    text = str(reference)
    if text == "latest":
        found = runs[-1:]
    elif re.fullmatch(r"[0-9]+", text):
        found = tuple(path for path in runs if _number(path) == int(text))
    else:
        found = tuple(
            path for path in (report_dir / "runs" / f"{text.removesuffix('.json')}.json", Path(text)) if path.is_file()
        )
    if found:
        return found[0]
    there = f"{_number(runs[0])} to {_number(runs[-1])}" if runs else "no run saved yet"
    msg = f"{report_dir / 'runs'}: run {text!r} not found, expected 'latest', a number, a name or a file ({there})"
    raise UsageError(msg)


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _stamp(provenance: Provenance) -> str:
    """Start and commit of a run: ``20260504T133700Z-1a2b3c4``."""
    try:
        started = f"{datetime.fromisoformat(provenance.started):%Y%m%dT%H%M%SZ}"
    except ValueError:
        started = "undated"
    return f"{started}-{re.sub(r'[^0-9A-Za-z]+', '-', provenance.commit).strip('-') or 'nogit'}"
