"""The store of saved runs: ``reports/runs/NNNN-<UTC time>-<commit>.json``, a file per session and candidate, in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from engram_bench.errors import StoreError, UsageError
from engram_bench.records import Provenance, Run
from engram_bench.runs.format import run_from_json, run_to_json
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import MIB, read_bytes

__all__ = ["find_run", "list_runs", "load_run", "save_run", "save_runs", "write_atomic"]

_NAME = re.compile(r"(\d{4,})-[0-9A-Za-z-]+\.json")
_LOCK_TIMEOUT_S = 60.0
LATEST = "latest"
MAX_RUN_BYTES = 256 * MIB
"""Largest run file that is read, twice that of 100,000 cases."""


def save_run(run: Run, report_dir: Path) -> Run:
    """The run under its new name, saved as ``report_dir/runs/<name>.json``; see :func:`save_runs`."""
    return save_runs([run], report_dir)[0]


def save_runs(runs: Sequence[Run], report_dir: Path) -> tuple[Run, ...]:
    """The runs of one session under their new names, saved as ``report_dir/runs/<name>.json`` with numbers in a row.

    Several runs form a group, named after the first. Existing files are never changed, and two processes that save at the same
    time get other numbers.

    Raises:
        StoreError: The folder cannot be written or the disk is full. Older runs stay, and no half file is left.
    """
    from filelock import FileLock, Timeout

    folder = report_dir / "runs"
    saved: list[Run] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=_LOCK_TIMEOUT_S):
            first = max(map(_number, list_runs(report_dir)), default=0) + 1
            for number, run in enumerate(runs, first):
                name = f"{number:04d}-{_stamp(run.provenance)}"
                group = (saved[0].name if saved else name) if len(runs) > 1 else ""
                saved.append(replace(run, name=name, group=group))
                write_atomic(folder / f"{name}.json", run_to_json(saved[-1]))
    except (OSError, Timeout) as error:
        msg = f"{folder}: runs cannot be saved here: {getattr(error, 'strerror', None) or error}"
        raise StoreError(msg) from error
    return tuple(saved)


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
        reference: ``latest``, a number (``12`` or ``0012``), a name, or the path of a file. ``RUN:NAME`` is the run of the
            candidate NAME in the session of RUN, and ``latest:NAME`` the latest run of this candidate.

    Raises:
        UsageError: There is no such run; the message names the runs that exist.
        StoreError: A run that must be read for its candidate cannot be read.
    """
    runs = list_runs(report_dir)
    text = str(reference)
    found = _find(report_dir, runs, text)
    if not found and ":" in text:
        session, _, name = text.rpartition(":")
        if session == LATEST:
            found = _latest_of(runs, name)
        elif any_run := _find(report_dir, runs, session):
            found = _in_session(runs, any_run[0], name)
    if found:
        return found[0]
    there = f"{_number(runs[0])} to {_number(runs[-1])}" if runs else "no run saved yet"
    msg = f"{report_dir / 'runs'}: run {text!r} not found, expected 'latest', a number, a name or a file ({there})"
    raise UsageError(msg)


def _find(report_dir: Path, runs: Sequence[Path], text: str) -> Sequence[Path]:
    if text == LATEST:
        return runs[-1:]
    if re.fullmatch(r"[0-9]+", text):
        return [path for path in runs if _number(path) == int(text)]
    there = (report_dir / "runs" / f"{text.removesuffix('.json')}.json", Path(text))
    return [path for path in there if path.is_file()]


def _latest_of(runs: Sequence[Path], name: str) -> Sequence[Path]:
    """The latest run of the candidate of this name; files that do not hold the name are not parsed, damaged ones left out."""
    for path in reversed(runs):
        with suppress(OSError, StoreError):
            if name.encode() in read_bytes(path, limit=MAX_RUN_BYTES) and load_run(path).candidate == name:
                return [path]
    return []


def _in_session(runs: Sequence[Path], path: Path, name: str) -> Sequence[Path]:
    """The run of the candidate of this name in the session that saved *path*, whose runs have numbers in a row."""
    run, number = load_run(path), runs.index(path) if path in runs else len(runs)
    if run.candidate == name:
        return [path]
    for way in (runs[number + 1 :], runs[:number][::-1]):
        for each in way if run.group else ():
            other = load_run(each)
            if other.group != run.group:
                break
            if other.candidate == name:
                return [each]
    return []


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _stamp(provenance: Provenance) -> str:
    """Start and commit of a run: ``20260504T133700Z-1a2b3c4``."""
    try:
        started = f"{datetime.fromisoformat(provenance.started):%Y%m%dT%H%M%SZ}"
    except ValueError:
        started = "undated"
    return f"{started}-{re.sub(r'[^0-9A-Za-z]+', '-', provenance.commit).strip('-') or 'nogit'}"
