"""The manifest of an adapter's folder, and whether the files beside the manifest are those that it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engram_bench.adapters.found import adapter_files
from engram_bench.errors import AdapterError, StoreError
from engram_bench.records import Recipe, TrainingRecord
from engram_bench.records.plain import from_plain, to_json_lines, to_plain
from engram_bench.system.files import sync, write_atomic
from engram_bench.system.reading import read_json, sha256_of

MANIFEST_FILE = "manifest.json"
MANIFEST_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Content of one file."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an adapter is, how it was trained and which files it consists of."""

    schema: int
    name: str
    base_reference: str
    """The base model as the user called it: for people, not compared."""
    base_fingerprint: str
    """Fingerprint of the base model's weights; empty in a foreign adapter, which does not know its base."""
    template_fingerprint: str
    backend: str
    """Backend that trained the adapter; empty if foreign."""
    created: str
    """ISO 8601, UTC; empty if foreign."""
    recipe: Recipe | None
    """None if foreign."""
    training: TrainingRecord | None
    """None if foreign."""
    files: Mapping[str, StoredFile]
    """Files by their path relative to the folder, ``/`` between parts; the manifest itself is not listed."""
    foreign: bool = False
    """Made by other tools: imported, or a folder without a manifest file, for which this one was made up."""


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an adapter's folder, types checked.

    Raises:
        AdapterError: It cannot be read, is cut, or is of another schema; names the file and the position in it.
    """
    path = folder / MANIFEST_FILE
    plain = _read_object(path)
    if (schema := plain.get("schema")) != MANIFEST_SCHEMA:
        msg = f"{path}: schema {schema!r}, expected {MANIFEST_SCHEMA}: written by another version of engram-bench"
        raise AdapterError(msg)
    try:
        manifest = from_plain(Manifest, plain)
    except ValueError as error:
        msg = f"{path}: {error}"
        raise AdapterError(msg) from error
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            msg = f"{path}: files: found {name!r}, expected a path inside the folder"
            raise AdapterError(msg)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Leave the manifest in the folder, on disk when this returns.

    Raises:
        AdapterError: It cannot be written.
    """
    try:
        write_atomic(folder / MANIFEST_FILE, to_json_lines(to_plain(manifest)))
    except StoreError as error:
        raise AdapterError(str(error)) from error


def foreign_manifest(folder: Path) -> Manifest:
    """A manifest for a folder of PEFT or mlx-lm; its name is the folder's and a hash of its two files.

    Raises:
        AdapterError: The folder holds no adapter of PEFT or mlx-lm. Pickled weights are not accepted.
    """
    config, weights = adapter_files(folder)
    base = _read_object(config).get("base_model_name_or_path")
    files = _describe(folder, [config, weights])
    return Manifest(
        schema=MANIFEST_SCHEMA,
        name=f"{folder.resolve().name}-{fingerprint(files)[:12]}",
        base_reference=base if isinstance(base, str) else "",
        base_fingerprint="",
        template_fingerprint="",
        backend="",
        created="",
        recipe=None,
        training=None,
        files=files,
        foreign=True,
    )


def stored_files(folder: Path) -> dict[str, StoredFile]:
    """Every file under *folder* but the manifest, described; all of them are on disk when this returns.

    Raises:
        AdapterError: There is no safetensors file among them.
    """
    for part in folder.rglob(
        ".*.part"
    ):  # begun by a process that was killed; the process that trains here holds the lock
        part.unlink(missing_ok=True)
    paths = sorted(folder.rglob("*"))
    files = _describe(folder, (path for path in paths if path.is_file() and path != folder / MANIFEST_FILE))
    if not any(name.endswith(".safetensors") for name in files):
        msg = f"{folder}: training left {', '.join(files) or 'nothing'}, expected a .safetensors file"
        raise AdapterError(msg)
    for path in [*paths, folder]:
        sync(path)
    return files


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Return if every listed file has the size and hash of the manifest; files that are not listed do not matter.

    Raises:
        AdapterError: One has not; names it.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            found = StoredFile(sha256_of(path, inside=folder), size) if size == expected.size else None
        except OSError as error:
            msg = f"{path}: {error.strerror or error}, but {MANIFEST_FILE} lists it; {_REMEDY}"
            raise AdapterError(msg) from error
        if size != expected.size:
            msg = f"{path}: {size} bytes, expected {expected.size} by {MANIFEST_FILE}; {_REMEDY}"
            raise AdapterError(msg)
        if found != expected:
            msg = f"{path}: content differs from what {MANIFEST_FILE} recorded ({expected.sha256[:12]}…); {_REMEDY}"
            raise AdapterError(msg)


def fingerprint(files: Mapping[str, StoredFile]) -> str:
    """One hash of all the files' names and content, 64 hex digits, whatever their order."""
    lines = sorted(f"{file.sha256}  {name}\n" for name, file in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_REMEDY = "bring the file back, or delete the folder to train again"


def _read_object(path: Path) -> dict[str, object]:
    try:
        plain = read_json(path, inside=path.parent)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise AdapterError(msg) from error
    except ValueError as error:
        msg = f"{path}: not whole JSON: {error}"
        raise AdapterError(msg) from error
    if not isinstance(plain, dict):
        msg = f"{path}: found {type(plain).__name__}, expected a JSON object"
        raise AdapterError(msg)
    return plain


def _describe(folder: Path, paths: Iterable[Path]) -> dict[str, StoredFile]:
    try:
        return {
            path.relative_to(folder).as_posix(): StoredFile(sha256_of(path, inside=folder), path.stat().st_size)
            for path in paths
        }
    except OSError as error:
        msg = f"{error.filename or folder}: cannot be read: {error.strerror or error}"
        raise AdapterError(msg) from error
