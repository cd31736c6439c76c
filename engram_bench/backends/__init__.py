"""The registry of backends: data, so that asking what can run here imports nothing heavy.

Other packages add a backend through the entry-point group ``engram_bench.backends``: the entry's name is the backend's,
its value an importable ``module:Class`` that implements :class:`engram_bench.backends.protocol.Backend`.
"""

from __future__ import annotations

import importlib
import platform
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.backends.protocol import Backend, Progress, no_progress
from engram_bench.errors import BackendUnavailable, UsageError
from engram_bench.records import DeviceInfo

if TYPE_CHECKING:
    from engram_bench.models import Model


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """How to find a backend without importing it."""

    target: str
    """``module:Class``."""
    library: str
    """What it trains and generates with, for people."""
    requires: tuple[str, ...] = ()
    """Top-level modules that must be installed."""
    extra: str = ""
    """``pip install 'engram-bench[EXTRA]'`` brings them."""
    device: str = "engram_bench.backends.devices:cpu_device"
    """``module:function`` → DeviceInfo, told without importing the library: a session served from stores never does."""
    resolver: str = "engram_bench.models:resolve_model"
    """``module:function`` that turns a model reference into a Model for this backend."""


BACKENDS: dict[str, BackendSpec] = {
    "cpu": BackendSpec(
        "engram_bench.backends.cpu:CpuBackend", "torch + PEFT", requires=("torch", "transformers", "peft"), extra="cpu"
    ),
    "mlx": BackendSpec(
        "engram_bench.backends.mlx:MlxBackend",
        "mlx-lm",
        requires=("mlx", "mlx_lm"),
        extra="mlx",
        device="engram_bench.backends.devices:mlx_device",
    ),
    "fake": BackendSpec(
        "engram_bench.backends.fake:FakeBackend",
        "a table of answers (for tests of the plugin)",
        device="engram_bench.backends.fake:fake_device",
        resolver="engram_bench.backends.fake:fake_model",
    ),
}


def known_backends() -> dict[str, BackendSpec]:
    """Every registered backend by name: the shipped ones and those of installed packages, shipped ones first."""
    found = dict(BACKENDS)
    for entry in entry_points(group="engram_bench.backends"):
        found.setdefault(entry.name, BackendSpec(entry.value, f"from {entry.value.partition(':')[0]}"))
    return found


def unavailable_reason(name: str) -> str | None:
    """Why this backend cannot run here, with the pip command, or None if it can. Imports nothing heavy.

    Raises:
        UsageError: No backend has this name.
    """
    spec = _spec(name)
    missing = [module for module in spec.requires if find_spec(module) is None]
    if not missing:
        return None
    return f"backend {name!r} needs {', '.join(missing)}: pip install 'engram-bench[{spec.extra}]'"


def create(name: str) -> Backend:
    """A new backend of this name, its libraries imported.

    Raises:
        UsageError: No backend has this name.
        BackendUnavailable: Its libraries are not installed, or its device is not here.
    """
    spec = _spec(name)
    reason = unavailable_reason(name)
    if reason:
        raise BackendUnavailable(reason)
    backend: Backend = _load(spec.target)()
    return backend


def device_info(name: str) -> DeviceInfo:
    """Where this backend would run, told without importing its library."""
    info: DeviceInfo = _load(_spec(name).device)()
    return info


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
    if "mlx" in BACKENDS and _is_apple_silicon() and unavailable_reason("mlx") is None:
        return "mlx", "Apple silicon with mlx-lm"
    if "cuda" in BACKENDS and _has_nvidia_gpu() and unavailable_reason("cuda") is None:
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


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _is_apple_silicon() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def _has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver exposes a device: read from the file system, so that torch need not be imported."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/proc/driver/nvidia/gpus").is_dir()
