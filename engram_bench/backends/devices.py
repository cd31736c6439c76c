"""Where each backend would run, told without importing its library."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from engram_bench.records import DeviceInfo


def cpu_device() -> DeviceInfo:
    """The processor torch computes on, in float32."""
    return DeviceInfo(
        backend="cpu",
        device="cpu",
        dtype="float32",
        versions=installed_versions("torch", "transformers", "peft"),
        note=f"{_usable_cores()} threads",
    )


def installed_versions(*distributions: str) -> dict[str, str]:
    """Version of each installed distribution, from its metadata; absent ones are left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _usable_cores() -> int:
    """Cores this process may run on: a container's share, not the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
