"""Tensors of a safetensors file one at a time, without torch: bfloat16 too, which numpy does not have.

Source of the format: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.errors import ModelError
from engram_bench.models.folder import check_weights, weight_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies."""

    path: Path
    name: str
    dtype: str
    """As the format writes it: ``F32``, ``BF16`` …"""
    shape: tuple[int, ...]
    start: int
    """Byte of the file."""
    end: int

    def read(self) -> NDArray[np.float32]:
        """Its values.

        Raises:
            ModelError: It does not hold floating-point numbers of 16 to 64 bits.
        """
        import numpy as np

        kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}
        if self.dtype not in kinds:
            msg = (
                f"{self.path}: {self.name} is {self.dtype}, expected {', '.join(kinds)} (a model that is not quantized)"
            )
            raise ModelError(msg)
        with self.path.open("rb") as file:
            file.seek(self.start)
            values = np.frombuffer(file.read(self.end - self.start), kinds[self.dtype])
        if self.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32).reshape(self.shape)
        return values.astype(np.float32).reshape(self.shape)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of a model folder's weights by name; only headers are read.

    Raises:
        ModelError: A file is missing or cut.
    """
    check_weights(folder)
    found = {}
    for path in weight_files(folder):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = (8 + length + offset for offset in entry["data_offsets"])
                found[name] = StoredTensor(path, name, entry["dtype"], tuple(entry["shape"]), start, end)
    return found


def linear_shapes(tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
    """Module path of every linear layer inside a model's blocks → (outputs, inputs): its matrices, told by their names."""
    shapes = {}
    for name, tensor in tensors.items():
        if name.endswith(".weight") and len(tensor.shape) == 2 and any(part.isdigit() for part in name.split(".")):
            shapes[name.removesuffix(".weight")] = (tensor.shape[0], tensor.shape[1])
    return shapes
