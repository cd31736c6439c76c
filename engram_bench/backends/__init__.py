"""The registry of backends: data, so that asking what can run here imports nothing heavy.

Other packages add a backend through the entry-point group ``engram_bench.backends``: the entry's name is the backend's,
its value an importable ``module:Class`` that implements :class:`engram_bench.backends.protocol.Backend`.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.backends.protocol import Backend, Progress, no_progress
from engram_bench.errors import BackendUnavailable, UsageError

if TYPE_CHECKING:
    from engram_bench.models import Model
    from engram_bench.records import DeviceInfo


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """How to find a backend without importing it."""

    target: str
    """``module:Class``."""
    library: str
    """What it trains and generates with, for people."""
    requires: tuple[str, ...] = ()
    """Distributions that must be installed, as pip writes them: ``mlx-lm>=0.32``."""
    extra: str = ""
    """``pip install 'engram-bench[EXTRA]'`` brings them."""
    device: str = "engram_bench.backends.devices:cpu_device"
    """``module:function`` → DeviceInfo, told without importing the library: a session served from stores never does."""
    resolver: str = "engram_bench.models:resolve_model"
    """``module:function`` that turns a model reference into a Model for this backend."""
    check: str = ""
    """``module:function`` → why it cannot run here with its *options*, or None; libraries are looked at before."""
    options: tuple[str, ...] = ()
    """Session settings the class, *device* and *check* take as keyword arguments, by their field names."""
    limits: tuple[str, ...] = ()
    """Session settings that the class alone takes, where they are set."""
    shortcuts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What it does faster than the plain way → the keyword arguments of the class that turn it off."""
    is_evaluation_only: bool = False
    """Asks models that somebody else serves: nothing is trained, loaded or stored."""
    is_listed: bool = True
    """Whether people are told of it."""


SHORTCUTS: Mapping[str, str] = {
    "packing": "many prompts or examples in one row, what they begin with in common once",
    "prefix-cache": "what all prompts of a call begin with is computed once",
    "drafts": "expected answers are read along with the prompts; only what differs is decoded",
    "eviction": "finished rows leave a batch and waiting ones take their places",
    "own-passes": "forward and backward passes written out in place of the library's",
    "presort": "answers come from a second copy of the weights, in the order of the fastest products",
    "short-products": "bfloat16 factors in training's large products, where the processor has them",
    "curriculum": "training batches hold mostly what is not known yet",
    "activation-cache": "training a memory computes once what it cannot change",
}
"""What some backend does faster than the plain way. None changes an answer; the last three change the trained numbers."""
_OFF: Mapping[str, Mapping[str, Any]] = {
    **{name: {name.replace("-", "_"): False} for name in SHORTCUTS},
    "own-passes": {"lean": False},
    "short-products": {"products": "float32"},
}

BACKENDS: dict[str, BackendSpec] = {
    "cpu": BackendSpec(
        "engram_bench.backends.cpu:CpuBackend",
        "torch + PEFT",
        requires=("torch>=2.6", "transformers>=5", "peft>=0.18"),
        extra="cpu",
        limits=("max_batch_tokens",),
        shortcuts=_OFF,
    ),
    "mlx": BackendSpec(
        "engram_bench.backends.mlx:MlxBackend",
        "mlx-lm",
        requires=("mlx>=0.32", "mlx-lm>=0.32"),
        extra="mlx",
        device="engram_bench.backends.devices:mlx_device",
        limits=("max_batch_tokens",),
        shortcuts={name: _OFF[name] for name in ("packing", "prefix-cache", "drafts", "eviction", "curriculum")}
        | {"own-passes": {"kernels": False}},
    ),
    "cuda": BackendSpec(
        "engram_bench.backends.cuda:UnslothBackend",
        "Unsloth",
        # Calendar versions; 2026.10.9 is the first that computes on a processor, the tests' only way to it without a GPU.
        requires=("unsloth>=2026.10.9,<2028", "torch>=2.6", "transformers>=5", "peft>=0.18"),
        extra="cuda",
        device="engram_bench.backends.devices:cuda_device",
        check="engram_bench.backends.nvidia:missing_gpu",
        options=("load_in_4bit",),
        limits=("max_batch_tokens",),
        shortcuts={name: _OFF[name] for name in ("packing", "curriculum", "activation-cache")},
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
    """Every registered backend by name: the shipped ones and those of installed packages, shipped ones first."""
    found = dict(BACKENDS)
    for entry in entry_points(group="engram_bench.backends"):
        found.setdefault(entry.name, BackendSpec(entry.value, f"from {entry.value.partition(':')[0]}"))
    return found


def unavailable_reason(name: str, **options: Any) -> str | None:
    """Why this backend cannot run here under these *options*, with what to do about it, or None if it can. Imports nothing heavy.

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
    """A new backend of this name, its libraries imported; it gets those of the *options* it takes.

    Of them ``plain`` names shortcuts to do without, ``all`` being every one it has; names it does not have change nothing.

    Raises:
        UsageError: No backend has this name.
        BackendUnavailable: Its libraries are not installed, or its device is not here.
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
    """Where this backend would run under these *options*, told without importing its library."""
    spec = _spec(name)
    info: DeviceInfo = _load(spec.device)(**_taken(spec, options))
    return info


def backends_table() -> list[dict[str, Any]]:
    """What ``engram-bench backends`` prints: one row per backend, told without importing any library.

    Keys: ``name``, ``library``, ``available`` (bool), ``reason`` (why not; empty if it is), ``device``, ``dtype``, ``note``,
    ``versions`` (installed ones by distribution), ``install`` (the pip command) and ``auto`` (whether auto takes it, and why).
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
    """Whether this backend asks models that somebody else serves: it neither trains nor loads adapters."""
    return _spec(name).is_evaluation_only


def resolve_model(name: str, reference: str, *, cache: Path | None = None, progress: Progress = no_progress) -> Model:
    """The model of this reference in the form the backend *name* takes.

    Raises:
        ModelError: The reference is unknown, or the download or conversion failed.
    """
    model: Model = _load(_spec(name).resolver)(reference, cache=cache, progress=progress)
    return model


def choose_backend(name: str = "auto") -> tuple[str, str]:
    """The backend to use and why.

    ``auto`` takes mlx on Apple silicon with mlx-lm, cuda on a machine with an NVIDIA GPU and Unsloth, else cpu.

    Raises:
        UsageError: No backend has this name.
    """
    if name != "auto":
        _spec(name)
        return name, "as asked"
    from engram_bench.backends.nvidia import find_gpu

    if _is_apple_silicon() and unavailable_reason("mlx") is None:
        return "mlx", "Apple silicon with mlx-lm"
    if find_gpu() is not None and unavailable_reason("cuda") is None:
        return "cuda", "NVIDIA GPU with Unsloth"
    return "cpu", "no Apple silicon with mlx-lm, no NVIDIA GPU with Unsloth"


def _spec(name: str) -> BackendSpec:
    if name in BACKENDS:  # without a look at every installed package
        return BACKENDS[name]
    found = known_backends()
    if name not in found:
        msg = f"backend: got {name!r}, expected one of auto, {', '.join(found)}"
        raise UsageError(msg)
    return found[name]


def _unmet(requirement: str) -> str:
    """What is missing of a requirement: it, or it with the version found; empty if it is met."""
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
