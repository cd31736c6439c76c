"""Headers of safetensors files: whole ones are read, others refused before a tensor is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engram_bench.system.tensor_files import TensorEntry, read_tensor_header


def written(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with this header and data; *length* stands where the header's length belongs."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(**other: Any) -> dict[str, Any]:
    """The header of one F32 tensor of two numbers, changed."""
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | other}


def test_a_header_names_each_tensor_with_its_bytes_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.zeros((2, 3), np.float32)}, path, metadata={"made": "by"})
    size = path.stat().st_size

    assert read_tensor_header(path) == (TensorEntry("a", "F32", (2, 3), size - 24, size),)


@pytest.mark.parametrize(
    ("header", "length", "found"),
    [
        (b"{}", 2**40, "no safetensors header"),
        (b"{}", 2**63, "no safetensors header"),
        (b"[1]", None, "holds a list"),
        (b"[" * 5000 + b"]" * 5000, None, "nested deeper"),
        (b"{\xff}", None, "utf-8|UTF-8"),
        ({"a": []}, None, "no dtype, shape and two data_offsets"),
        (entry(shape=[2.0]), None, "no dtype, shape"),
        (entry(shape=[-2]), None, "no dtype, shape"),
        (entry(shape=[10**30]), None, "no dtype, shape"),
        (entry(shape=[1] * 17), None, "no dtype, shape"),
        (entry(data_offsets=[0]), None, "no dtype, shape"),
        (entry(shape=[3]), None, "has 8 bytes, which F32 of shape"),
        (entry(data_offsets=[8, 16]), None, "begins at byte"),
        (entry(dtype="NEW", data_offsets=[0, 4000]), None, "found .* bytes, expected"),
        ({**entry(), "b": entry()["a"]}, None, "begins at byte"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_header_that_does_not_fit_its_file_is_refused(
    tmp_path: Path, header: Any, length: int | None, found: str
) -> None:
    path = written(tmp_path / "a.safetensors", header, b"\0" * 8, length)

    with pytest.raises(ValueError, match=found):
        read_tensor_header(path)


def test_a_file_of_a_few_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\2")

    with pytest.raises(ValueError, match="no safetensors header in 1 bytes"):
        read_tensor_header(tmp_path / "a")
