"""Start of mlx in this process: versions are checked, a fast BLAS is preloaded, mlx-lm is imported without torch."""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

from engram_bench.backends.common.training_plan import peak_memory_mb
from engram_bench.backends.machine.blas import preload_blas
from engram_bench.backends.machine.capabilities import Capability, find
from engram_bench.backends.machine.devices import FUSED_KERNELS, installed_versions
from engram_bench.backends.machine.timing import shortest_s
from engram_bench.backends.mlx.lazy_transformers import deferred_transformers
from engram_bench.errors import BackendUnavailable
from engram_bench.system.warning import warn

OLDEST = {"mlx": (0, 32), "mlx-lm": (0, 32)}
INSTALL = "pip install 'engram-bench[mlx]'"


@cache
def start() -> ModuleType:
    """The module ``mlx.core``, ready to use. The first call takes about half a second.

    Raises:
        BackendUnavailable: mlx or mlx-lm is missing, too old, or has no device library (on Linux ``mlx`` alone is empty).
    """
    _check_versions()
    _, warning = preload_blas()
    try:
        core = importlib.import_module("mlx.core")
        with deferred_transformers(), _kept_file_limits():
            for name in ("mlx_lm.utils", "mlx_lm.tuner.utils", "mlx_lm.models.cache"):
                importlib.import_module(name)
    except ImportError as error:
        msg = f"backend 'mlx' cannot be imported ({error}): {INSTALL}"
        raise BackendUnavailable(msg) from error
    if warning and not is_accelerated():
        warn(warning)
    if not is_accelerated() and not fused_kernels().is_there:
        core.disable_compile()
    return core


def fused_kernels() -> Capability:
    """Whether mlx can compile a fused kernel for the processor, which it does with g++ at run time."""
    return find(FUSED_KERNELS, _try_fused)


def short_products(dtype: str) -> Capability:
    """Whether mlx multiplies matrices of *dtype* at least as fast as float32 ones on this processor."""
    return find(f"mlx-{dtype}", lambda: _try_short_products(dtype))


def is_accelerated() -> bool:
    """Whether mlx computes on a GPU (Metal or CUDA)."""
    import mlx.core as mx

    return bool(mx.default_device() == mx.Device(mx.gpu))


def device_name() -> str:
    """Name of the device: ``cpu``, or the GPU as mlx names it."""
    import mlx.core as mx

    if not is_accelerated():
        return "cpu"
    kind = "metal" if sys.platform == "darwin" else "cuda"
    return f"{kind} {mx.device_info().get('device_name', '')}".strip()


def default_dtype() -> str:
    """Name of the default data type: ``float32`` on a CPU, where mlx emulates shorter ones; ``bfloat16`` on a GPU."""
    return "bfloat16" if is_accelerated() else "float32"


def peak_mb() -> float:
    """Peak memory (MiB): of the GPU since :func:`forget_peak`, or of this process without a GPU."""
    import mlx.core as mx

    return mx.get_peak_memory() / 2**20 if is_accelerated() else peak_memory_mb()


def forget_peak() -> None:
    """Free the memory that mlx keeps for reuse, and start to measure peak memory again."""
    import mlx.core as mx

    mx.clear_cache()
    mx.reset_peak_memory()


def _try_fused() -> str:
    import mlx.core as mx

    try:
        subprocess.run(["g++", "--version"], capture_output=True, check=True)  # what mlx asks before it compiles
    except (OSError, subprocess.CalledProcessError):
        return "no g++"
    x = mx.arange(1.0, 5.0)
    found = mx.compile(lambda x: x * x - x)(x).tolist()
    return "" if found == [0.0, 2.0, 6.0, 12.0] else f"a fused x² - x of 1 to 4 gave {found}"


def _try_short_products(dtype: str) -> str:
    import mlx.core as mx

    def seconds(kind: mx.Dtype) -> float:
        x, weight = mx.ones((64, 256), kind), mx.ones((256, 256), kind)
        return shortest_s(lambda: mx.eval(x @ weight))

    ratio = seconds(mx.float32) / seconds(getattr(mx, dtype))
    return "" if ratio >= 1 else f"{dtype} products have {ratio:.2f} times the speed of float32 ones"


@contextmanager
def _kept_file_limits() -> Iterator[None]:
    """Context in which resource limits stay: on import, mlx-lm lowers the hard limit of open files of the process."""
    real = resource.setrlimit
    resource.setrlimit = lambda *arguments: None
    try:
        yield
    finally:
        resource.setrlimit = real


def _check_versions() -> None:
    found = installed_versions(*OLDEST)
    for name, oldest in OLDEST.items():
        wanted = ".".join(map(str, oldest))
        if name not in found:
            msg = f"backend 'mlx' needs {name} {wanted} or newer, found none: {INSTALL}"
            raise BackendUnavailable(msg)
        if tuple(int(part) for part in found[name].split(".")[:2]) < oldest:
            msg = f"backend 'mlx': found {name} {found[name]}, expected {wanted} or newer: pip install -U {name}"
            raise BackendUnavailable(msg)
