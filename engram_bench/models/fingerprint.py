"""Fingerprints of weights: hashes that are computed once and remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from engram_bench.models.folder import weight_files
from engram_bench.system.reading import read_json, sha256_of


def weights_fingerprint(folder: Path, *, cache: Path) -> str:
    """SHA-256 (hex) over names and contents of ``config.json`` and the weights, without the tokenizer.

    Args:
        folder: Folder of the model.
        cache: Cache that remembers the value.
    """
    files = [folder / "config.json", *weight_files(folder)]

    def hashed() -> str:
        return sha256("\n".join(f"{path.name} {file_sha256(path)}" for path in files).encode()).hexdigest()

    return _remembered(files, hashed, cache)


def gguf_fingerprint(path: Path, *, cache: Path) -> str:
    """SHA-256 (hex) of the content of a GGUF file, remembered in *cache*."""
    return _remembered([path], lambda: file_sha256(path), cache)


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of the content of a file, computed at every call."""
    return sha256_of(path)


def _remembered(files: Sequence[Path], compute: Callable[[], str], cache: Path) -> str:
    """Value in ``<cache>/fingerprints``, which is valid while each file keeps its path, size and modification time.

    Without a writable cache, the value is computed again each time.
    """
    stamps: list[list[str | int]] = [
        [str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in files
    ]
    memory = cache / "fingerprints" / f"{sha256(str(stamps[0][0]).encode()).hexdigest()[:16]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = read_json(memory)
        if stored["files"] == stamps:
            return str(stored["sha256"])
    value = compute()
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"files": stamps, "sha256": value}), encoding="utf-8")
        draft.replace(memory)
    return value
