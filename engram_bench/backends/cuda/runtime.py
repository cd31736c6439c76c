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

from engram_bench.backends.machine.nvidia import find_gpu, missing_gpu, uses_cpu
from engram_bench.errors import BackendUnavailable


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
    try:
        with quiet():
            module = importlib.import_module("unsloth")
            torch = importlib.import_module("torch")
    except (ImportError, NotImplementedError, RuntimeError) as error:
        msg = f"backend 'cuda' cannot import Unsloth ({error}): pip install 'engram-bench[cuda]'"
        raise BackendUnavailable(msg) from error
    if not uses_cpu() and not torch.cuda.is_available():
        gpu = find_gpu()
        msg = (
            f"backend 'cuda': the driver shows {gpu.name if gpu else 'a GPU'}, but torch {torch.__version__} cannot use "
            "it, expected a CUDA build of torch: pip install --force-reinstall torch; or use --engram-backend=cpu"
        )
        raise BackendUnavailable(msg)
    return module


def is_accelerated() -> bool:
    """Whether Unsloth's own forward pass runs on a GPU; on the processor Unsloth keeps transformers' pass."""
    return not uses_cpu()


def peak_gpu_memory_mb() -> float:
    """Peak memory (MiB) that torch has held on the GPU so far."""
    import torch

    return float(torch.cuda.max_memory_allocated() / 2**20)


@contextmanager
def quiet() -> Iterator[None]:
    """Context without Unsloth's banners and warnings, which would disturb the lines of pytest."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
