"""Start of Unsloth in this process: before transformers, without banners, without the network."""

from __future__ import annotations

import importlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType

from engram_bench.backends.machine.capabilities import Capability, find
from engram_bench.backends.machine.devices import GPU_BFLOAT16
from engram_bench.backends.machine.nvidia import CPU_CHOICE, find_gpu, missing_gpu, uses_cpu
from engram_bench.backends.machine.timing import shortest_s
from engram_bench.backends.torch.operators import difference
from engram_bench.errors import BackendUnavailable

CPU_FALLBACK = "unsloth-cpu"
INSTALL = "pip install 'engram-bench[cuda]'"


@cache
def start() -> ModuleType:
    """The ``unsloth`` module. The first call takes about five seconds and patches transformers for the whole process.

    Raises:
        BackendUnavailable: There is no NVIDIA GPU and the user did not choose the processor, torch cannot use the GPU, or an
            import failed.
    """
    reason = missing_gpu()
    if reason is not None:
        raise BackendUnavailable(reason)
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(Path(tempfile.gettempdir()) / "unsloth_compiled_cache"))
    if uses_cpu():
        os.environ["UNSLOTH_FORCE_CPU"] = "1"
    if "transformers" in sys.modules and "unsloth" not in sys.modules:
        warnings.warn(
            "transformers was imported before Unsloth, some of its speed is lost: import engram_bench.backends.cuda first",
            stacklevel=3,
        )
    if uses_cpu() and not (able := find(CPU_FALLBACK, _try_cpu_fallback)).is_there:
        msg = (
            f"backend 'cuda': {CPU_CHOICE}=1 asks for the processor, but Unsloth cannot compute on it ({able.reason}), "
            f"expected one with a CPU fallback: {INSTALL}; or use --engram-backend=cpu"
        )
        raise BackendUnavailable(msg)
    try:
        module = _import("unsloth")
        torch = _import("torch")
    except (ImportError, NotImplementedError, RuntimeError) as error:
        msg = f"backend 'cuda' cannot import Unsloth ({error}): {INSTALL}"
        raise BackendUnavailable(msg) from error
    if not uses_cpu() and not torch.cuda.is_available():
        gpu = find_gpu()
        msg = (
            f"backend 'cuda': the driver shows {gpu.name if gpu else 'a GPU'}, but torch {torch.__version__} cannot use "
            "it, expected a CUDA build of torch: pip install --force-reinstall torch; or use --engram-backend=cpu"
        )
        raise BackendUnavailable(msg)
    return module


def bfloat16() -> Capability:
    """Whether the GPU multiplies bfloat16 matrices, and no slower than float32 ones."""
    return find(GPU_BFLOAT16, _try_bfloat16)


def compute_dtype() -> str:
    """What Unsloth computes in: ``bfloat16`` on a GPU that multiplies it, else ``float32`` (float16 needs a scaled loss)."""
    return "bfloat16" if is_accelerated() and bfloat16().is_there else "float32"


def is_accelerated() -> bool:
    """Whether Unsloth's own forward pass runs on a GPU; on the processor Unsloth keeps transformers' pass."""
    return not uses_cpu()


def peak_gpu_memory_mb() -> float:
    """Peak memory (MiB) that torch has held on the GPU so far."""
    import torch

    return float(torch.cuda.max_memory_allocated() / 2**20)


def _try_cpu_fallback() -> str:
    device = getattr(_import("unsloth"), "DEVICE_TYPE", "")
    return "" if device == "cpu" else f"it computes on {device or 'a GPU'}"


def _try_bfloat16(device: str = "cuda", size: int = 4096) -> str:
    """Why the GPU should compute in float32. The product is large, so that its start costs nothing beside it."""
    import torch

    short = torch.sin(torch.arange(size * size, device=device).view(size, size) % 89).bfloat16()
    wait = torch.cuda.synchronize if short.is_cuda else lambda: None

    def seconds(factor: torch.Tensor) -> float:
        return shortest_s(lambda: (factor @ factor, wait()))  # type: ignore[no-untyped-call]

    if wrong := difference(short @ short, (short.float() @ short.float()).bfloat16()):
        return wrong
    ratio = seconds(short.float()) / seconds(short)
    return "" if ratio >= 1 else f"bfloat16 products have {ratio:.2f} times the speed of float32 ones"


def _import(name: str) -> ModuleType:
    with quiet():
        return importlib.import_module(name)


@contextmanager
def quiet() -> Iterator[None]:
    """Context without Unsloth's banners and warnings, which would disturb the lines of pytest."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
