"""The registry of backends: plain data, so that no question about backends imports a heavy library.

Other packages add a backend through the entry-point group ``engram_bench.backends``. The name of the entry is the name of
the backend; its value is an importable ``module:Class`` that implements :class:`engram_bench.backends.protocol.Backend`.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.backends.machine import nvidia
from engram_bench.backends.protocol import Backend
from engram_bench.errors import BackendUnavailable, UsageError
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model
    from engram_bench.records import DeviceInfo


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """Entry of a backend, which describes the backend without importing it."""

    target: str
    """Class of the backend, as ``module:Class``."""
    library: str
    """Library that trains and generates, as reports name it."""
    requires: tuple[str, ...] = ()
    """Distributions that must be installed, as requirements of pip: ``mlx-lm>=0.32``."""
    extra: str = ""
    """Extra of this package that installs the required distributions: ``pip install 'engram-bench[EXTRA]'``."""
    device: str = "engram_bench.backends.machine.devices:cpu_device"
    """Function, as ``module:function``, that returns the DeviceInfo without importing the library."""
    resolver: str = "engram_bench.models:resolve_model"
    """Function, as ``module:function``, that turns a model reference into a Model for this backend."""
    check: str = ""
    """Function, as ``module:function``, that returns the reason why the backend cannot run here with its *options*, or None.

    The function is called only if all required distributions are installed.
    """
    options: tuple[str, ...] = ()
    """Fields of the session's settings that the class, *device* and *check* take as keyword arguments."""
    limits: tuple[str, ...] = ()
    """Fields of the session's settings that the class alone takes as keyword arguments, where they are set."""
    shortcuts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Keyword arguments of the class that turn a shortcut off, by the name of the shortcut in :data:`SHORTCUTS`."""
    is_evaluation_only: bool = False
    """Whether the backend asks models that another program serves, and neither trains nor stores adapters."""
    is_listed: bool = True
    """Whether ``engram-bench backends`` lists the backend."""


SHORTCUTS: Mapping[str, str] = {
    "packing": "many prompts or examples share one row, and a common prefix is computed once",
    "prefix-cache": "the common prefix of all prompts in a call is computed once",
    "drafts": "expected answers are checked together with the prompts; only tokens that differ are decoded",
    "eviction": "finished rows leave a batch and waiting rows replace them",
    "own-passes": "forward and backward passes of this package replace the library's",
    "presort": "answers use a second copy of the weights, in the order of the fastest matrix products",
    "short-products": "large matrix products of training have bfloat16 factors, where the processor supports them",
    "curriculum": "training batches hold mostly examples that are not recalled yet",
    "activation-cache": "training of a memory computes states once that the memory cannot change",
}
"""Ways in which some backends are faster, by name. None changes an answer; the last three change the trained numbers."""
_TURN_OFF: Mapping[str, Mapping[str, Any]] = {
    **{name: {name.replace("-", "_"): False} for name in SHORTCUTS},
    "own-passes": {"lean": False},
    "short-products": {"products": "float32"},
}

BACKENDS: dict[str, BackendSpec] = {
    "cpu": BackendSpec(
        "engram_bench.backends.torch:CpuBackend",
        "torch + PEFT",
        requires=("torch>=2.6", "transformers>=5", "peft>=0.18"),
        extra="cpu",
        limits=("max_batch_tokens",),
        shortcuts=_TURN_OFF,
    ),
    "mlx": BackendSpec(
        "engram_bench.backends.mlx:MlxBackend",
        "mlx-lm",
        requires=("mlx>=0.32", "mlx-lm>=0.32"),
        extra="mlx",
        device="engram_bench.backends.machine.devices:mlx_device",
        limits=("max_batch_tokens",),
        shortcuts={name: _TURN_OFF[name] for name in ("packing", "prefix-cache", "drafts", "eviction", "curriculum")}
        | {"own-passes": {"kernels": False}},
    ),
    "cuda": BackendSpec(
        "engram_bench.backends.cuda:UnslothBackend",
        "Unsloth",
        # Calendar versions. 2026.10.9 is the first that can compute on a processor, which tests without a GPU need.
        requires=("unsloth>=2026.10.9,<2028", "torch>=2.6", "transformers>=5", "peft>=0.18"),
        extra="cuda",
        device="engram_bench.backends.machine.devices:cuda_device",
        check="engram_bench.backends.machine.nvidia:missing_gpu",
        options=("load_in_4bit",),
        limits=("max_batch_tokens",),
        shortcuts={name: _TURN_OFF[name] for name in ("packing", "curriculum", "activation-cache")},
    ),
    "server": BackendSpec(
        "engram_bench.backends.server:ServerBackend",
        "an OpenAI-compatible server; evaluation only",
        device="engram_bench.backends.server:server_device",
        resolver="engram_bench.backends.server:served_model",
        check="engram_bench.backends.server:missing_options",
        options=("server_url", "baseline_model", "candidate_model", "server_concurrency", "server_timeout"),
        is_evaluation_only=True,
    ),
    "fake": BackendSpec(
        "engram_bench.backends.fake:FakeBackend",
        "a table of answers (for tests of the plugin)",
        device="engram_bench.backends.fake:fake_device",
        resolver="engram_bench.backends.fake:fake_model",
        is_listed=False,
    ),
}


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
    keywords = _taken(spec, options) | {name: options[name] for name in spec.limits if options.get(name) is not None}
    plain = options.get("plain", ())
    for name, off in spec.shortcuts.items():
        if name in plain or "all" in plain:
            keywords |= off
    backend: Backend = _load(spec.target)(**keywords)
    return backend


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
