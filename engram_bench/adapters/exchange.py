"""Adapters to and from other tools: mlx-lm, PEFT (vLLM, transformers), llama.cpp, or merged into the model."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters import store as adapter_store
from engram_bench.adapters.found import adapter_files, beyond_lora
from engram_bench.adapters.gguf import write_gguf_lora
from engram_bench.adapters.kinds import LORA
from engram_bench.adapters.layout import (
    Updates,
    check_fits,
    read_updates,
    uniform,
    write_mlx,
    write_peft,
)
from engram_bench.adapters.manifest import MANIFEST_FILE, foreign_manifest, write_manifest
from engram_bench.adapters.merge import write_merged
from engram_bench.adapters.store import Adapter
from engram_bench.errors import AdapterError, UsageError
from engram_bench.models.tensors import linear_shapes, stored_tensors
from engram_bench.records import Recipe
from engram_bench.system.files import expanded
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model

FORMATS = {
    "peft": "adapter_model.safetensors + adapter_config.json: PEFT, transformers, vLLM, Unsloth",
    "mlx": "adapters.safetensors + adapter_config.json: mlx_lm.generate, mlx_lm.server --adapter-path",
    "merged": "a model folder with the adapter in its fp32 weights",
    "gguf-lora": "adapter.gguf: llama.cpp --lora",
}
"""Name of an export format → what it holds and who reads it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""Name of a stored adapter: a folder of its own beside the others."""
HUB_FILES = ("*.safetensors", "*.json")


def export_adapter(
    adapter: Adapter, form: str, folder: Path, *, model: Model, progress: Progress = no_progress
) -> tuple[Path, ...]:
    """The files written into *folder*, which is made and must be empty: the adapter in another tool's form.

    The export is complete or not there. No torch is imported.

    Args:
        adapter: A LoRA; its base must be *model*.
        form: One of :data:`FORMATS`.
        folder: Folder to write, missing or empty.
        model: The base model.
        progress: Callable that receives the number of merged tensors.

    Raises:
        UsageError: *form* is unknown, or *folder* holds something.
        AdapterError: The adapter is no plain LoRA, belongs to another base model, or does not fit it.
        ModelError: The model's weights cannot be merged into.
    """
    if form not in FORMATS:
        msg = f"export: format {form!r}, expected {', '.join(FORMATS)}"
        raise UsageError(msg)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        msg = f"export: {folder} is there already, expected a new or empty folder"
        raise UsageError(msg)
    updates = _updates_for(adapter, model)
    with _whole(folder) as partial:
        if form == "peft":
            rank, scale, same = uniform(updates)
            write_peft(partial, same, Recipe(rank=rank, alpha=scale * rank), base=model.reference)
        elif form == "mlx":
            write_mlx(partial, updates, num_layers=int(model.config["num_hidden_layers"]))
        elif form == "merged":
            write_merged(model.folder, updates, partial, progress=progress)
        else:
            write_gguf_lora(partial / "adapter.gguf", updates, model.config)
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))


def import_adapter(
    source: str, root: Path, *, model: Model, name: str | None = None, progress: Progress = no_progress
) -> Adapter:
    """A stored adapter made from another tool's: kept in *root*, a LoRA in PEFT's layout and checked against *model*.

    An adapter that is more than plain LoRA is kept as it is; its library checks it when it is loaded.

    Args:
        source: A folder of PEFT or mlx-lm, or a Hub id (``org/name`` or ``org/name@revision``) of such a folder.
        root: The adapters' folder.
        model: The base model it is for: every layer must be there and have the adapter's sizes.
        name: Name of the stored adapter; None takes the folder's name and a hash of the content.
        progress: Callable that receives the start and the end of a download.

    Raises:
        UsageError: The name is not that of a folder below *root*.
        AdapterError: Nothing there, no adapter, pickled weights, another rank than its configuration says, layers the model
            does not have or of other sizes, or another adapter has that name.
    """
    if name is not None and not _NAME.fullmatch(name):
        msg = f"--name: got {name!r}, expected letters, digits, '.', '_' and '-', the first a letter or digit"
        raise UsageError(msg)
    path = expanded(source)
    folder = path if path.exists() else _from_hub(source, progress)
    if not folder.is_dir():
        msg = f"{folder}: no folder, expected one of PEFT or mlx-lm, or a Hub id"
        raise AdapterError(msg)
    partial = root / f".import-{secrets.token_hex(4)}"
    partial.mkdir(parents=True)
    try:
        _write_import(folder, partial, model)
        made = foreign_manifest(partial)
        stem = (source.partition("@")[0] if folder is not path else folder.resolve().name).replace("/", "--")
        found = name or f"{stem}-{Adapter('', partial, made).fingerprint[:12]}"
        manifest = replace(
            made,
            name=found,
            base_reference=model.reference,
            base_fingerprint=model.fingerprint,
            template_fingerprint=model.tokenizer.template_fingerprint,
        )
        write_manifest(partial, manifest)
        return _take(partial, root / found, Adapter(found, root / found, manifest))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# ── export ──────────────────────────────────────────────────────────────────────────────────────


def _updates_for(adapter: Adapter, model: Model) -> Updates:
    recipe = adapter.manifest.recipe
    if recipe is not None and recipe.kind != LORA.name:
        msg = f"{adapter.path}: the adapter's kind is {recipe.kind!r}, expected {LORA.name!r} (only LoRA has other tools' forms)"
        raise AdapterError(msg)
    trained_on = adapter.manifest.base_fingerprint
    if trained_on and trained_on != model.fingerprint:
        msg = f"{adapter.path}: trained on base model {trained_on}, expected {model.fingerprint}"
        raise AdapterError(msg)
    updates = read_updates(adapter.path)
    check_fits(adapter.path, updates, linear_shapes(stored_tensors(model.folder)))
    return updates


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill that becomes *folder* when nothing went wrong."""
    partial = folder.with_name(f".{folder.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        msg = f"{folder}: cannot be written: {error.strerror or error}"
        raise AdapterError(msg) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# ── import ──────────────────────────────────────────────────────────────────────────────────────


def _write_import(folder: Path, partial: Path, model: Model) -> None:
    """A plain LoRA in PEFT's layout; an adapter that only its library computes as it is."""
    files = adapter_files(folder)
    if beyond_lora(folder):
        for path in files:
            shutil.copyfile(path, partial / path.name)
        return
    updates = read_updates(folder)
    check_fits(folder, updates, linear_shapes(stored_tensors(model.folder)))
    rank, scale, same = uniform(updates)
    write_peft(partial, same, Recipe(rank=rank, alpha=scale * rank), base=model.reference)


def _from_hub(reference: str, progress: Progress) -> Path:
    """Folder of a repository's adapter files in the Hub's cache: no code, no pickles."""
    if reference.count("/") != 1 or reference.startswith((".", "/", "~")):
        msg = f"{reference}: no such folder, expected one of PEFT or mlx-lm, or a Hub id such as org/name"
        raise AdapterError(msg)
    from huggingface_hub import snapshot_download

    repository, _, revision = reference.partition("@")
    progress("download", 0, 1, reference)
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=list(HUB_FILES))
    except Exception as error:  # the client raises a dozen unrelated kinds: HTTP, offline, gated, validation, disk
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{reference}: not downloaded from the Hub ({reason}), expected a repository in reach; offline, name a folder"
        raise AdapterError(msg) from error
    progress("download", 1, 1, reference)
    return Path(folder)


def _take(partial: Path, target: Path, adapter: Adapter) -> Adapter:
    """Rename into place; the same adapter imported before is that one."""
    if not target.exists():
        partial.rename(target)
        return adapter_store.load(target)
    there = adapter_store.load(target) if (target / MANIFEST_FILE).exists() else None
    if there is not None and there.fingerprint == adapter.fingerprint:
        return there
    msg = f"{target}: another adapter has this name, expected a free one"
    raise AdapterError(msg)
