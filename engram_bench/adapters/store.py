"""Adapters on disk: ``adapters/<name>/`` in PEFT's layout with a manifest, trained once per identity.

    adapters/lora-1a2b3c4d5e6f/      a finished adapter: complete, or not there
    adapters/.partial/<name>/        a training in progress, or an interrupted one that can go on
    adapters/.locks/<name>.lock      held while training; ``<name>.holder`` says by whom
    adapters/.locks/<name>.session   the session that trained it again on request

The folder is renamed into place when everything in it is on the disk, the manifest last. So a finished adapter is never
half-written, and one whose files differ from its manifest was damaged afterwards: an error, never a silent retrain.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from engram_bench.adapters import manifest as adapter_manifest
from engram_bench.adapters.folders import discard, locked, note_retrained, publish, retrained_in
from engram_bench.adapters.manifest import MANIFEST_FILE, MANIFEST_SCHEMA, Manifest
from engram_bench.errors import AdapterError, StoreError
from engram_bench.records import Recipe, TrainingExample, TrainingRecord
from engram_bench.records.plain import canonical_json, from_plain, to_plain
from engram_bench.records.training import LATER_FIELDS
from engram_bench.system.provenance import utc_now


@dataclass(frozen=True)
class AdapterIdentity:
    """Everything an adapter depends on, whatever backend trains it."""

    base_fingerprint: str
    """Fingerprint of the base model's weights and configuration."""
    template_fingerprint: str
    examples: Sequence[TrainingExample]
    """Training examples in their order: another order is another adapter."""
    recipe: Recipe

    @cached_property
    def name(self) -> str:
        """``<kind>-<12 hex digits>``: equal for equal identities on every machine, different for any difference."""
        recipe = to_plain(from_plain(Recipe, to_plain(self.recipe)))  # alpha 16 and 16.0 are one recipe
        usual = to_plain(Recipe())
        recipe = {key: value for key, value in recipe.items() if key not in LATER_FIELDS or value != usual[key]}
        parts = (self.base_fingerprint, self.template_fingerprint, tuple(self.examples), recipe)
        return f"{self.recipe.kind}-{sha256(canonical_json(parts).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Adapter:
    """A stored adapter whose files were checked."""

    name: str
    path: Path
    manifest: Manifest

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the files' content, 64 hex digits; of the name, where a server has the files.

        Two trainings of one identity share the name but, on two machines, hardly the last bit of the weights: what is
        cached per adapter is keyed by this.
        """
        if not self.manifest.files:
            return sha256(self.name.encode()).hexdigest()
        return adapter_manifest.fingerprint(self.manifest.files)


def obtain(
    root: Path,
    identity: AdapterIdentity,
    train: Callable[[Path], TrainingRecord],
    *,
    retrain_in: str | None = None,
    base_reference: str = "",
    wait_note: Callable[[str], None] = lambda note: None,
) -> Adapter:
    """The adapter of an identity: the stored one if there is one, else what *train* leaves in the folder it is given.

    One process trains, others that want the same adapter wait for it. The folder keeps what an interrupted training
    left there; *train* may go on from it.

    Args:
        root: The adapters' folder, created if missing; may be read-only when the adapter is already there.
        identity: Everything that the adapter is trained from.
        train: Function that trains into the given folder; called at most once, and not at all for a stored adapter.
        retrain_in: Name of the session that trains from scratch once, whatever is stored; one of its processes trains. The old
            adapter stays until the new one is complete. None trains only what is not stored.
        base_reference: Name that the user gave the base model, for the manifest.
        wait_note: Function that is called once with the name of the process that holds the adapter.

    Raises:
        AdapterError: The stored adapter is damaged, *root* cannot be written, or *train* left no weights.
    """
    path = root / identity.name
    retrain = retrain_in is not None
    try:
        with locked(root, identity.name, wait_note):
            retrain = retrain and not (path.exists() and retrained_in(root, identity.name) == retrain_in)
            if retrain or not (path.exists() or _publish_if_complete(root, identity.name)):
                _train_into_place(root, identity, train, from_scratch=retrain, base_reference=base_reference)
                note_retrained(root, identity.name, retrain_in)
            return _load_as(identity, path)
    except OSError as error:
        if path.exists() and not retrain:  # finished adapters in a folder where no lock can be made
            return _load_as(identity, path)
        msg = f"{path}: cannot be written: {error.strerror or error}"
        raise AdapterError(msg) from error


def load(path: Path, *, base_fingerprint: str | None = None) -> Adapter:
    """The adapter in a folder, every file compared with its manifest.

    A PEFT folder without a manifest is accepted as it is: its manifest is made up and says ``foreign``.

    Args:
        path: The adapter's folder.
        base_fingerprint: Fingerprint of the base model to attach to; None accepts any. A foreign adapter does not
            know its base model.

    Raises:
        AdapterError: Nothing there, no adapter, a damaged file, or one trained on another base model.
    """
    if not path.is_dir():
        msg = f"{path}: no such folder, expected an adapter"
        raise AdapterError(msg)
    if (path / MANIFEST_FILE).exists():
        manifest = adapter_manifest.read_manifest(path)
        adapter_manifest.verify_files(path, manifest)
    else:
        manifest = adapter_manifest.foreign_manifest(path)
    trained_on = manifest.base_fingerprint
    if base_fingerprint is not None and trained_on and trained_on != base_fingerprint:
        msg = f"{path}: trained on base model {trained_on}, expected {base_fingerprint}"
        raise AdapterError(msg)
    return Adapter(manifest.name, path, manifest)


def served(name: str, base: str) -> Adapter:
    """An adapter that a server has under this model name, beside *base*: nothing of it is here but its name."""
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name=name,
        base_reference=base,
        base_fingerprint="",
        template_fingerprint="",
        backend="",
        created="",
        recipe=None,
        training=None,
        files={},
        foreign=True,
    )
    return Adapter(name, Path(name), manifest)


def list_adapters(root: Path, *, on_broken: Callable[[AdapterError], None] | None = None) -> tuple[Adapter, ...]:
    """The adapters in *root* that have a manifest, oldest first; their weights are not compared with it.

    Args:
        root: The adapters' folder; empty or missing gives ().
        on_broken: Function that is called for each manifest that cannot be read; None raises at the first.

    Raises:
        AdapterError: A manifest cannot be read.
    """
    adapters = []
    for manifest_file in root.glob("[!.]*/" + MANIFEST_FILE):
        path = manifest_file.parent
        try:
            manifest = adapter_manifest.read_manifest(path)
        except AdapterError as error:
            if on_broken is None:
                raise
            on_broken(error)
        else:
            adapters.append(Adapter(manifest.name, path, manifest))
    return tuple(sorted(adapters, key=lambda adapter: (adapter.manifest.created, adapter.name)))


def prunable(root: Path, keep: Collection[str]) -> tuple[str, ...]:
    """Names of every adapter and interrupted training in *root* whose name is not in *keep*, in order.

    Folders without a manifest are not ours and left out.
    """
    finished = {manifest.parent.name for manifest in root.glob("[!.]*/" + MANIFEST_FILE)}
    interrupted = {folder.name for folder in root.glob(".partial/*")}
    return tuple(sorted((finished | interrupted) - set(keep)))


def delete(root: Path, names: Collection[str]) -> tuple[str, ...]:
    """Delete the adapters and interrupted trainings of these names; the names of those deleted.

    Whatever another process is training now stays.

    Raises:
        AdapterError: A folder cannot be deleted.
    """
    from filelock import Timeout

    removed = []
    for name in names:
        try:
            with locked(root, name):
                discard(root, root / ".partial" / name)
                discard(root, root / name)
        except Timeout:
            continue
        except OSError as error:
            msg = f"{root / name}: cannot be deleted: {error.strerror or error}"
            raise AdapterError(msg) from error
        removed.append(name)
    shutil.rmtree(root / ".trash", ignore_errors=True)
    return tuple(removed)


# ── training into place ─────────────────────────────────────────────────────────────────────────


def _train_into_place(
    root: Path,
    identity: AdapterIdentity,
    train: Callable[[Path], TrainingRecord],
    *,
    from_scratch: bool,
    base_reference: str,
) -> None:
    partial = root / ".partial" / identity.name
    if from_scratch:
        discard(root, partial)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        record = train(partial)
    except (OSError, StoreError) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"{partial}: training stopped: {reason}"
        raise AdapterError(msg) from error
    manifest = Manifest(
        schema=MANIFEST_SCHEMA,
        name=identity.name,
        base_reference=base_reference,
        base_fingerprint=identity.base_fingerprint,
        template_fingerprint=identity.template_fingerprint,
        backend=record.backend,
        created=utc_now(),
        recipe=identity.recipe,
        training=record,
        files=adapter_manifest.stored_files(partial),
    )
    adapter_manifest.write_manifest(partial, manifest)
    publish(root, identity.name)


def _publish_if_complete(root: Path, name: str) -> bool:
    """Whether there was a complete training that was killed just before its rename; renames it."""
    partial = root / ".partial" / name
    try:
        adapter_manifest.verify_files(partial, adapter_manifest.read_manifest(partial))
    except AdapterError:
        return False
    publish(root, name)
    return True


def _load_as(identity: AdapterIdentity, path: Path) -> Adapter:
    adapter = load(path, base_fingerprint=identity.base_fingerprint)
    if adapter.name != identity.name:
        msg = f"{path}: the manifest is of adapter {adapter.name!r}, expected {identity.name!r}"
        raise AdapterError(msg)
    return adapter
