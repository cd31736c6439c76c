"""Writer of safetensors files, one tensor at a time, so that memory holds one tensor and not a model.

Source of the format: https://github.com/huggingface/safetensors#format (length, JSON header, data).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FLOAT_BYTES = 4


class LazyTensor(NamedTuple):
    """An fp32 tensor whose values are computed when it is written."""

    name: str
    """Name in the file."""
    shape: tuple[int, ...]
    """Shape of the values."""
    make: Callable[[], NDArray[np.float32]]
    """Function that computes the values."""


def write_safetensors(path: Path, tensors: Sequence[LazyTensor], *, progress: Progress = no_progress) -> None:
    """Write an fp32 file with one tensor in memory at a time.

    Args:
        path: File to write.
        tensors: Tensors in the order of the file.
        progress: Function that receives stage, written tensors, all tensors and a name after each tensor.

    Raises:
        OSError: The file cannot be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + prod(tensor.shape) * _FLOAT_BYTES
        header[tensor.name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start on a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for done, tensor in enumerate(tensors, start=1):
            file.write(tensor.make().astype("<f4", order="C", copy=False).tobytes())
            progress("convert", done, len(tensors), tensor.name)
        file.flush()
        os.fsync(file.fileno())
