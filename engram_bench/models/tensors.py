"""Tensors of safetensors files, read one at a time without torch, including bfloat16, which numpy lacks.

Source of the format: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.errors import ModelError
from engram_bench.models.folder import check_weights, weight_files
from engram_bench.system.reading import open_regular
from engram_bench.system.tensor_files import read_tensor_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Position of one tensor in a file."""

    path: Path
    """File that holds the tensor."""
    name: str
    """Name of the tensor."""
    dtype: str
    """Data type in the notation of the format, such as ``F32`` or ``BF16``."""
    shape: tuple[int, ...]
    """Shape of the tensor."""
    start: int
    """Offset of the first byte in the file."""
    end: int
    """Offset after the last byte in the file."""

    def read(self) -> NDArray[np.float32]:
        """Values of the tensor, as float32.

        Raises:
            ModelError: The tensor does not hold floating-point numbers of 16 to 64 bits.
        """
        import numpy as np

        kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}
        if self.dtype not in kinds:
            msg = (
                f"{self.path}: {self.name} is {self.dtype}, expected {', '.join(kinds)} (a model that is not quantized)"
            )
            raise ModelError(msg)
        with open_regular(self.path) as file:
            file.seek(self.start)
            values = np.frombuffer(file.read(self.end - self.start), kinds[self.dtype])
        if self.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32).reshape(self.shape)
        return values.astype(np.float32).reshape(self.shape)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors in the weights of a model folder, by name. Only headers are read.

    Raises:
        ModelError: A file is missing or cut.
    """
    check_weights(folder)
    found = {}
    for path in weight_files(folder):
        for entry in read_tensor_header(path):
            found[entry.name] = StoredTensor(path, entry.name, entry.dtype, entry.shape, entry.start, entry.end)
    return found


def linear_shapes(tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
    """Shape (outputs, inputs) of every linear layer inside the blocks of a model, by module path.

    A linear layer is a matrix whose name has a number in it.
    """
    shapes = {}
    for name, tensor in tensors.items():
        if name.endswith(".weight") and len(tensor.shape) == 2 and any(part.isdigit() for part in name.split(".")):
            shapes[name.removesuffix(".weight")] = (tensor.shape[0], tensor.shape[1])
    return shapes
