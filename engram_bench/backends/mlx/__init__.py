"""The ``mlx`` backend: mlx-lm's models and LoRA layers on Metal, CUDA or a CPU, adapters in PEFT's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engram_bench.backends.mlx.runtime import start

if TYPE_CHECKING:
    from engram_bench.backends.mlx.backend import MlxBackend

__all__ = ["MlxBackend"]


def __getattr__(name: str) -> Any:
    """The backend's class, whose module imports mlx: a faster BLAS has to be loaded before.

    Raises:
        BackendUnavailable: mlx or mlx-lm is missing, too old or without a device library.
    """
    if name != "MlxBackend":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    start()
    from engram_bench.backends.mlx.backend import MlxBackend  # not before the start

    return MlxBackend
