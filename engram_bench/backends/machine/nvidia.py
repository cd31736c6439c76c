"""The NVIDIA GPU of this machine, found without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from engram_bench.system.reading import read_text

CPU_CHOICE = "ENGRAM_UNSLOTH_CPU"
"""Set to 1 to let Unsloth compute on the processor, GPU or not."""
LOOKED_FOR = "/dev/nvidia[0-9], /proc/driver/nvidia/gpus and nvidia-smi"


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU that programs of this process see."""

    name: str
    """Name that the driver reports: ``NVIDIA H100 80GB HBM3``."""
    memory_mb: int | None = None
    capability: tuple[int, int] | None = None
    """Compute capability; None where the driver did not say."""

    @property
    def computes_bfloat16(self) -> bool:
        """Whether it has bfloat16 in hardware: Ampere (8.0) and later; assumed where unknown."""
        return self.capability is None or self.capability >= (8, 0)


@cache
def find_gpu() -> Gpu | None:
    """The GPU, or None; asks nvidia-smi once per process (a tenth of a second), and only where a driver is."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    command = shutil.which("nvidia-smi") or shutil.which("/usr/lib/wsl/lib/nvidia-smi")
    listed = _ask(command) if command else None
    if listed is not None:
        return listed
    if any(Path("/dev").glob("nvidia[0-9]*")) or Path("/proc/driver/nvidia/gpus").is_dir():
        return Gpu(_name_in_proc() or "NVIDIA GPU")
    return None


def missing_gpu(*, load_in_4bit: bool = False) -> str | None:
    """Why Unsloth may not compute here, or None: there is an NVIDIA GPU, or the processor was asked for."""
    if load_in_4bit and find_spec("bitsandbytes") is None:
        return "--engram-load-in-4bit needs bitsandbytes: pip install bitsandbytes"
    if uses_cpu() or find_gpu() is not None:
        return None
    return (
        f"backend 'cuda' needs an NVIDIA GPU: looked for {LOOKED_FOR}, found none; use --engram-backend=cpu "
        f"(or set {CPU_CHOICE}=1 for Unsloth on the processor, slower than that)"
    )


def uses_cpu() -> bool:
    """Whether the user asked for Unsloth on the processor."""
    return os.environ.get(CPU_CHOICE, "") == "1"


def _ask(command: str) -> Gpu | None:
    query = [command, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    lines = [line for line in answer.splitlines() if line.count(",") >= 2]
    if not lines:
        return None
    line = lines[int(visible)] if visible.isdigit() and int(visible) < len(lines) else lines[0]
    name, memory, capability = (part.strip() for part in line.rsplit(",", 2))
    major, _, minor = capability.partition(".")
    return Gpu(
        name,
        int(memory) if memory.isdigit() else None,
        (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None,
    )


def _name_in_proc() -> str:
    for path in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        for line in read_text(path, errors="replace").splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return ""
