"""The backends that are there, and what can be asked of them by name. No question imports a heavy library.

Other packages add a backend through the entry-point group ``engram_bench.backends``. The name of the entry is the name of
the backend; its value is an importable ``module:Class`` that implements :class:`engram_bench.backends.protocol.Backend`.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.backends.machine import nvidia
from engram_bench.backends.machine.waiting import wait_asleep
from engram_bench.backends.protocol import Backend
from engram_bench.backends.specs import BACKENDS, MODEL_FOLDERS, BackendSpec
from engram_bench.errors import BackendUnavailable, UsageError
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import ChatTokenizer, Model
    from engram_bench.records import DeviceInfo


def known_backends() -> dict[str, BackendSpec]:
    """Entry of every backend by name: first the backends of this package, then those of other installed packages."""
    found = dict(BACKENDS)
    for entry in entry_points(group="engram_bench.backends"):
        found.setdefault(entry.name, BackendSpec(entry.value, f"from {entry.value.partition(':')[0]}"))
    return found


def unavailable_reason(name: str, **options: Any) -> str | None:
    """Reason why this backend cannot run here, with a remedy, or None if it can. No heavy library is imported.

    Args:
        name: Name of the backend.
        options: Settings of the session by field name; the backend's own are used.

    Raises:
        UsageError: No backend has this name.
    """
    spec = _spec(name)
    unmet = [need for need in map(_unmet, spec.requires) if need]
    if unmet:
        return f"backend {name!r} needs {', '.join(unmet)}: {_install(spec)}"
    reason: str | None = _load(spec.check)(**_taken(spec, options)) if spec.check else None
    return reason


def create(name: str, **options: Any) -> Backend:
    """A new backend with its libraries imported.

    Args:
        name: Name of the backend.
        options: Settings of the session by field name; the backend gets those that it takes. The setting ``plain`` holds
            names of shortcuts to turn off, or ``all``; names of shortcuts that the backend lacks have no effect.

    Raises:
        UsageError: No backend has this name.
        BackendUnavailable: The libraries are not installed, or the device is missing.
    """
    spec = _spec(name)
    reason = unavailable_reason(name, **options)
    if reason:
        raise BackendUnavailable(reason)
    wait_asleep()  # before the library of the backend is imported
    backend: Backend = _load(spec.target)(**arguments_of(name, **options))
    return backend


def arguments_of(name: str, **options: Any) -> dict[str, Any]:
    """The keyword arguments that :func:`create` gives the class of this backend.

    Args:
        name: Name of the backend.
        options: Settings of the session by field name.

    Raises:
        UsageError: No backend has this name.
    """
    spec = _spec(name)
    keywords = _taken(spec, options) | {name: options[name] for name in spec.limits if options.get(name) is not None}
    plain = options.get("plain", ())
    for shortcut, off in spec.shortcuts.items():
        if shortcut in plain or "all" in plain:
            keywords |= off
    return keywords


def device_info(name: str, **options: Any) -> DeviceInfo:
    """Device of this backend under these settings of the session, found without importing its library.

    Raises:
        UsageError: No backend has this name.
    """
    spec = _spec(name)
    info: DeviceInfo = _load(spec.device)(**_taken(spec, options))
    return info


def backends_table() -> list[dict[str, Any]]:
    """Rows of ``engram-bench backends``, one per listed backend, found without importing any library.

    Keys are ``name``, ``library``, ``available`` (bool), ``reason`` (empty if available), ``device``, ``dtype``, ``note``,
    ``versions`` (installed versions by distribution), ``install`` (the pip command) and ``auto`` (the reason why ``auto``
    chooses this backend; empty if not).
    """
    chosen, why = choose_backend()
    rows = []
    for name, spec in known_backends().items():
        if not spec.is_listed:
            continue
        reason = unavailable_reason(name) or ""
        info = device_info(name)
        rows.append(
            {
                "name": name,
                "library": spec.library,
                "available": not reason,
                "reason": reason,
                "device": "" if reason else info.device,
                "dtype": "" if reason else info.dtype,
                "note": "" if reason else info.note,
                "versions": dict(info.versions),
                "install": _install(spec),
                "auto": why if name == chosen else "",
            }
        )
    return rows


def is_evaluation_only(name: str) -> bool:
    """Whether this backend asks models that another program serves, and neither trains nor loads adapters."""
    return _spec(name).is_evaluation_only


def check_ready(name: str, model: Model, adapter: Path | None, options: Mapping[str, Any]) -> None:
    """Raise the error that the first question would meet, as far as it can be known before a model is loaded.

    Args:
        name: Name of the backend.
        model: Model to ask.
        adapter: Folder of the adapter; None for the bare model, and for an adapter that is still to be trained.
        options: Settings of the session by field name; the backend's own are used.

    Raises:
        AdapterError: The adapter cannot be opened.
        BackendError: The server lacks a model, or cannot be reached.
    """
    spec = _spec(name)
    if spec.ready:
        _load(spec.ready)(model, adapter, **_taken(spec, options))


def trained_kinds(name: str) -> tuple[str, ...]:
    """Kinds of adapter that this backend trains; empty where only a training tells."""
    return _spec(name).kinds


def resolve_model(name: str, reference: str, *, cache: Path | None = None, progress: Progress = no_progress) -> Model:
    """The model with this reference, in the form that the backend takes.

    Args:
        name: Name of the backend.
        reference: Preset, folder, GGUF file or Hub id; for the ``server`` backend, a model name of the server.
        cache: Folder for downloaded and converted models; None stands for the default folder.
        progress: Function that receives stage, finished part, whole and a note.

    Raises:
        UsageError: No backend has this name.
        ModelError: The reference is unknown, or the download or conversion failed.
    """
    model: Model = _load(_spec(name).resolver)(reference, cache=cache, progress=progress)
    return model


def local_tokenizer(name: str, reference: str, *, cache: Path) -> ChatTokenizer | None:
    """The tokenizer of a model that is on this machine; None for other models, and where a server has the tokenizer.

    Args:
        name: Name of the backend, or ``auto``.
        reference: Reference of the model.
        cache: Folder for downloaded and converted models.

    Raises:
        UsageError: No backend has this name.
        ModelError: The reference is unknown, or the tokenizer cannot be read.
    """
    spec = _spec("cpu" if name == "auto" else name)
    if spec.is_evaluation_only:
        return None
    if spec.resolver != MODEL_FOLDERS:
        return resolve_model(name, reference, cache=cache).tokenizer
    from engram_bench.models.chat import ChatTokenizer
    from engram_bench.models.resolve import local_folder

    folder = local_folder(reference, cache=cache)
    return ChatTokenizer(folder) if folder else None


def choose_backend(name: str = "auto") -> tuple[str, str]:
    """Name of the backend to use, and the reason.

    ``auto`` chooses mlx on Apple silicon with mlx-lm, cuda on a machine with an NVIDIA GPU and Unsloth, else cpu.

    Raises:
        UsageError: No backend has this name.
    """
    if name != "auto":
        _spec(name)
        return name, "as asked"

    if _is_apple_silicon() and unavailable_reason("mlx") is None:
        return "mlx", "Apple silicon with mlx-lm"
    if nvidia.find_gpu() is not None and unavailable_reason("cuda") is None:
        return "cuda", "NVIDIA GPU with Unsloth"
    return "cpu", "no Apple silicon with mlx-lm, no NVIDIA GPU with Unsloth"


def _spec(name: str) -> BackendSpec:
    if name in BACKENDS:  # avoids a search through all installed packages
        return BACKENDS[name]
    found = known_backends()
    if name not in found:
        msg = f"backend: got {name!r}, expected one of auto, {', '.join(found)}"
        raise UsageError(msg)
    return found[name]


def _unmet(requirement: str) -> str:
    """The requirement if it is not met, with the installed version if there is one; empty if it is met."""
    from packaging.requirements import Requirement

    needed = Requirement(requirement)
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return requirement
    return "" if needed.specifier.contains(found, prereleases=True) else f"{requirement} (found {found})"


def _install(spec: BackendSpec) -> str:
    return f"pip install 'engram-bench[{spec.extra}]'" if spec.extra else ""


def _taken(spec: BackendSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in spec.options if name in options}


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _is_apple_silicon() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"
