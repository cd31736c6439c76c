"""Safetensors files: the header is checked against the file's size before anything is built, and a file is written whole.

Source of the format: https://github.com/huggingface/safetensors#format (length, JSON header, data).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_bench.system.files import replacing
from engram_bench.system.reading import MAX_TEXT_BYTES, open_regular, parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

ITEM_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}
"""Size of one number of each common type."""
MAX_RANK = 16
"""Most dimensions of a tensor."""
NUMPY_TYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
"""Types that numpy has, by their name in the format."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file, by its header."""

    name: str
    dtype: str
    """Data type in the notation of the format, such as ``F32`` or ``BF16``."""
    shape: tuple[int, ...]
    start: int
    """Offset of the first byte in the file."""
    end: int
    """Offset after the last byte in the file."""


def read_tensor_header(path: Path, *, inside: Path | None = None) -> tuple[TensorEntry, ...]:
    """The tensors of a safetensors file in the order of the header, whose data fill the rest of the file exactly.

    Args:
        path: File to read; its tensors are not read.
        inside: Folder that the file must stay in when its links are followed; None lets links lead anywhere.

    Raises:
        OSError: As :func:`~engram_bench.system.reading.open_regular`.
        ValueError: The header is longer than the file or than 16 MiB, is not JSON, or does not fit the file's size.
    """
    return _header(path, inside)[0]


def read_arrays(path: Path, *, inside: Path | None = None) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors of a safetensors file by name, and its metadata.

    Raises:
        OSError: As :func:`~engram_bench.system.reading.open_regular`.
        ValueError: As :func:`read_tensor_header`, or numpy has no such type.
    """
    import numpy as np

    entries, metadata = _header(path, inside)
    arrays = {}
    with open_regular(path) as file:
        for entry in entries:
            if entry.dtype not in NUMPY_TYPES:
                msg = f"tensor {entry.name[:60]!r} is {entry.dtype}, expected one of {', '.join(NUMPY_TYPES)}"
                raise ValueError(msg)
            file.seek(entry.start)
            data = bytearray(file.read(entry.end - entry.start))
            arrays[entry.name] = np.frombuffer(data, NUMPY_TYPES[entry.dtype]).reshape(entry.shape)
    return arrays, metadata


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, metadata: Mapping[str, str] | None = None, durable: bool = False
) -> None:
    """Write *arrays* as a safetensors file, whole or not at all, with the bytes that the safetensors library writes.

    Raises:
        StoreError: The file cannot be written; the message names the file and the cause.
        KeyError: An array has a type that is not among :data:`NUMPY_TYPES`.
    """
    import numpy as np

    names = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items()}
    order = list(ITEM_BITS)  # largest items first, so that every tensor starts on a multiple of its item's size
    typed = {name: (names[array.dtype.newbyteorder("<")], array) for name, array in arrays.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    ranked = sorted(typed.items(), key=lambda item: (-order.index(item[1][0]), item[0]))
    for name, (dtype, array) in ranked:
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path, durable=durable) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, (dtype, array) in ranked:
            file.write(np.ascontiguousarray(array, NUMPY_TYPES[dtype]).tobytes())


def _header(path: Path, inside: Path | None) -> tuple[tuple[TensorEntry, ...], dict[str, str]]:
    """The tensors and the metadata of a file."""
    with open_regular(path, inside=inside) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, MAX_TEXT_BYTES):
            msg = f"no safetensors header in {size:,} bytes, expected one"
            raise ValueError(msg)
        header = parse_json(file.read(length))
    if not isinstance(header, dict):
        msg = f"the header holds a {type(header).__name__}, expected an object"
        raise ValueError(msg)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        msg = "the header's __metadata__ holds something else than texts, expected texts by name"
        raise ValueError(msg)
    first = 8 + length
    tensors = tuple(_entry(name, entry, first) for name, entry in header.items())
    end = _end_of(tensors, first)
    if size != end:
        msg = f"found {size} bytes, expected {end}; download or copy it again"
        raise ValueError(msg)
    return tensors, metadata


def _entry(name: str, entry: Any, first: int) -> TensorEntry:
    """One entry, its types and its size checked."""
    values: dict[str, Any] = entry if isinstance(entry, dict) else {}
    shape: Any
    offsets: Any
    dtype, shape, offsets = (values.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not (isinstance(dtype, str) and _are_sizes(shape, MAX_RANK) and _are_sizes(offsets, 2) and len(offsets) == 2):
        msg = f"tensor {name[:60]!r} has no dtype, shape and two data_offsets, expected them"
        raise ValueError(msg)
    start, end = offsets
    bits = ITEM_BITS.get(dtype)
    if start > end or (bits is not None and prod(shape) * bits != 8 * (end - start)):
        msg = f"tensor {name[:60]!r} has {end - start:,} bytes, which {dtype} of shape {_shown(shape)} has not"
        raise ValueError(msg)
    return TensorEntry(name, dtype, tuple(shape), first + start, first + end)


def _end_of(tensors: Iterable[TensorEntry], first: int) -> int:
    """Where the data end, which follow each other without a gap."""
    end = first
    for tensor in sorted(tensors, key=lambda each: (each.start, each.end)):
        if tensor.start != end:
            msg = f"tensor {tensor.name[:60]!r} begins at byte {tensor.start:,}, expected {end:,}"
            raise ValueError(msg)
        end = tensor.end
    return end


def _are_sizes(values: Any, most: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= most
        and all(type(value) is int and 0 <= value < 1 << 62 for value in values)
    )


def _shown(shape: list[int]) -> str:
    return str(shape) if len(str(shape)) < 60 else f"{len(shape)} dimensions"
