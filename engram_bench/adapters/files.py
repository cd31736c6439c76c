"""The two kinds of file an adapter folder holds, read with every mistake named and written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import AdapterError
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import MAX_TEXT_BYTES, read_bytes, read_json
from engram_bench.system.tensor_files import read_tensor_header, write_arrays

Floats = NDArray[np.float32]
KINDS: Mapping[str, Any] = {"F32": np.float32, "F16": np.float16, "F64": np.float64}


def read_config(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        AdapterError: The file is missing or holds something else.
    """
    try:
        config = read_json(path, inside=path.parent)
    except OSError as error:
        msg = f"{path}: not found or not readable, expected an adapter folder ({error.strerror})"
        raise AdapterError(msg) from error
    except ValueError as error:
        msg = f"{path}: expected JSON ({error})"
        raise AdapterError(msg) from error
    if not isinstance(config, dict):
        msg = f"{path}: holds a {type(config).__name__}, expected an object"
        raise AdapterError(msg)
    return config


def read_tensors(path: Path) -> dict[str, Floats]:
    """Every tensor of a safetensors file as float32; numpy has no bfloat16, so those are widened by hand.

    Raises:
        AdapterError: The file is missing or cut, or a tensor holds no floats or no finite ones.
    """
    return {name: _floats(path, name, tensor) for name, tensor in _stored(path)}


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a safetensors file by name; only the header is read.

    Raises:
        AdapterError: The file is missing or cut.
    """
    try:
        return {entry.name: entry.shape for entry in read_tensor_header(path)}
    except OSError as error:
        msg = f"{path}: not found or not readable, expected LoRA weights in safetensors ({error.strerror or error})"
        raise AdapterError(msg) from error
    except ValueError as error:
        msg = f"{path}: cut off or damaged, expected a whole safetensors file ({error})"
        raise AdapterError(msg) from error


def non_finite(path: Path) -> list[str]:
    """Names of the tensors of a safetensors file that hold NaN or infinite values, in order.

    Raises:
        AdapterError: The file is missing or cut.
    """
    return [name for name, tensor in _stored(path) if _is_float(tensor) and not np.isfinite(_values(tensor)).all()]


def _stored(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Name, and type, shape and bytes, of every tensor."""
    try:
        entries = read_tensor_header(path, inside=path.parent)
        data = memoryview(read_bytes(path, limit=max((entry.end for entry in entries), default=MAX_TEXT_BYTES)))
    except OSError as error:
        msg = f"{path}: not found or not readable, expected LoRA weights in safetensors ({error.strerror})"
        raise AdapterError(msg) from error
    except ValueError as error:
        msg = f"{path}: cut off or damaged, expected a whole safetensors file ({error})"
        raise AdapterError(msg) from error
    return [
        (entry.name, {"dtype": entry.dtype, "shape": entry.shape, "data": data[entry.start : entry.end]})
        for entry in entries
    ]


def _is_float(tensor: Mapping[str, Any]) -> bool:
    return tensor["dtype"] in (*KINDS, "BF16")


def _values(tensor: Mapping[str, Any]) -> Floats:
    """The numbers of a float tensor, flat."""
    if tensor["dtype"] == "BF16":
        wide = np.frombuffer(tensor["data"], np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32)
    return np.frombuffer(tensor["data"], KINDS[tensor["dtype"]]).astype(np.float32)


def _floats(path: Path, name: str, tensor: Mapping[str, Any]) -> Floats:
    if not _is_float(tensor):
        msg = f"{path}: tensor {name!r} is {tensor['dtype']}, expected F32, F16 or BF16"
        raise AdapterError(msg)
    values = _values(tensor)
    if not np.isfinite(values).all():
        msg = f"{path}: tensor {name!r} holds NaN or infinite values, expected finite ones"
        raise AdapterError(msg)
    return values.reshape(tensor["shape"])


def write_tensors(path: Path, tensors: Mapping[str, Floats]) -> None:
    """Write *tensors* as float32 safetensors; *path* is replaced once they are all there.

    Raises:
        StoreError: The file cannot be written; no half file is left.
    """
    whole = {name: np.asarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    write_arrays(path, whole, metadata={"format": "pt"})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write *content* as indented JSON; *path* is replaced once it is all there.

    Raises:
        StoreError: The file cannot be written; no half file is left.
    """
    write_atomic(path, json.dumps(content, indent=2) + "\n")
