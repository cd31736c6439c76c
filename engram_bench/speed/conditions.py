"""Conditions of a timed round: cores, threads, clock and memory, from the libraries that are already loaded."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from engram_bench.errors import BackendError
from engram_bench.system.reading import read_text

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")
_CPU = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Cores and threads that a process computes with."""

    cores: int
    """Number of cores that the process may run on."""
    threads: int | None
    """Number of torch's threads; None where torch is not loaded."""

    def check(self) -> None:
        """Check that the conditions are still the same.

        Raises:
            BackendError: The number of cores or threads changed, so that rounds before and after cannot be paired.
        """
        now = _read()
        if now != self:
            msg = f"timed rounds: {now} after a round, expected {self} as before: nothing may change them meanwhile"
            raise BackendError(msg)

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' * (self.cores != 1)}"
        return cores if self.threads is None else f"{self.threads} thread{'s' * (self.threads != 1)} on {cores}"


def pin() -> Conditions:
    """The conditions from now on: the process keeps its cores and torch keeps its threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    conditions = _read()
    if conditions.threads is not None:
        sys.modules["torch"].set_num_threads(conditions.threads)
    return conditions


def clock_mhz() -> float | None:
    """The mean clock (MHz) of the cores now; None where the system does not report it."""
    try:
        found = re.findall(r"^cpu MHz\s*:\s*([0-9.]+)", read_text(_CPU, errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return fmean(map(float, found)) if found else None


def reset_peak_memory() -> None:
    """Let :func:`peak_memory_mb` count from now on, where the system allows it."""
    if (device := _device()) is not None:
        device.reset_peak_memory_stats() if hasattr(device, "reset_peak_memory_stats") else device.reset_peak_memory()
        return
    try:
        _RESET_PEAK.write_text("5", "ascii")  # proc(5): resets the peak resident set size
    except OSError:
        return


def peak_memory_mb() -> float | None:
    """Most memory (MB of 10^6 bytes) since the reset: of the accelerator in use, else of this process."""
    if (device := _device()) is not None:
        peak = device.max_memory_allocated() if hasattr(device, "max_memory_allocated") else device.get_peak_memory()
        return float(peak) / 1e6
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB", read_text(_STATUS, errors="replace"), re.MULTILINE)
    except OSError:
        return _rusage_mb()
    return int(found[1]) * 1024 / 1e6 if found else None


def _read() -> Conditions:
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Conditions(cores, threads)


def _device() -> Any:
    """The loaded library that counts an accelerator's memory: ``torch.cuda`` or ``mlx.core``; None on a processor."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        return torch.cuda
    mlx: Any = sys.modules.get("mlx.core")
    if mlx is not None and mlx.default_device() != mlx.cpu:
        return mlx
    return None


def _rusage_mb() -> float | None:
    """The peak (MB) since the process started, which cannot be reset; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
