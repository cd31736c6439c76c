"""Device of each backend, found without importing its library."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engram_bench.backends.machine.blas import describe, find_blas
from engram_bench.backends.machine.capabilities import switched_off
from engram_bench.backends.machine.nvidia import CPU_CHOICE, find_gpu, uses_cpu
from engram_bench.records import DeviceInfo

FUSED_KERNELS = "fused-kernels"
"""mlx compiles what is fused with g++, at run time."""
GPU_BFLOAT16 = "gpu-bfloat16"


def cpu_device() -> DeviceInfo:
    """Device of the ``cpu`` backend: the processor, in float32."""
    return DeviceInfo(
        backend="cpu",
        device="cpu",
        dtype="float32",
        versions=installed_versions("torch", "transformers", "peft"),
        note=f"{_usable_cores()} threads",
    )


def mlx_device() -> DeviceInfo:
    """Device of the ``mlx`` backend: Metal on macOS, CUDA with mlx's CUDA wheel and an NVIDIA GPU, else the processor."""
    versions = installed_versions("mlx", "mlx-lm")
    if sys.platform == "darwin":
        return DeviceInfo(backend="mlx", device="metal", dtype="bfloat16", versions=versions)
    if installed_versions("mlx-cuda-12", "mlx-cuda-13") and any(Path("/dev").glob("nvidia[0-9]*")):
        return DeviceInfo(backend="mlx", device="cuda", dtype="bfloat16", versions=versions)
    unfused = switched_off(FUSED_KERNELS) or ("" if shutil.which("g++") else "no g++")
    note = mlx_note(describe(find_blas()), unfused)
    return DeviceInfo(backend="mlx", device="cpu", dtype="float32", versions=versions, note=note)


def mlx_note(matrices: str, unfused: str) -> str:
    """Note on a processor that mlx uses: threads, matrix library, and the reason why kernels are not fused, if any."""
    return f"{_usable_cores()} threads, {matrices}" + (f", kernels are not fused ({unfused})" if unfused else "")


def cuda_device(*, load_in_4bit: bool = False, dtype: str = "") -> DeviceInfo:
    """Device of the ``cuda`` backend: the NVIDIA GPU as its driver names it, or the processor where the user chose it.

    Without a *dtype*, :func:`cuda_dtype` names it.
    """
    dtype = dtype or cuda_dtype()
    gpu = None if uses_cpu() else find_gpu()
    if gpu is None:
        device, note = "cpu", f"{_usable_cores()} threads, Unsloth's fallback ({CPU_CHOICE}=1)"
    else:
        device, note = f"cuda:0 {gpu.name}", f"{gpu.memory_mb} MB" if gpu.memory_mb else ""
    return DeviceInfo(
        backend="cuda",
        device=device,
        dtype=f"{dtype}, 4-bit weights" if load_in_4bit else dtype,
        versions=installed_versions("unsloth", "torch", "transformers", "peft"),
        note=note,
    )


def cuda_dtype() -> str:
    """Likely data type of Unsloth's computation, from the driver's numbers: bfloat16 on a GPU that has it, else float32.

    float16 would need a scaled loss. Once torch is imported, :func:`engram_bench.backends.cuda.runtime.compute_dtype` knows.
    """
    gpu = None if uses_cpu() or switched_off(GPU_BFLOAT16) else find_gpu()
    return "bfloat16" if gpu is not None and gpu.computes_bfloat16 else "float32"


def installed_versions(*distributions: str) -> dict[str, str]:
    """Version of each installed distribution by name, from its metadata; absent distributions are left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _usable_cores() -> int:
    """Number of cores that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
