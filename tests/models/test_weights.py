from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from engram_bench.models.weights import LazyTensor, write_safetensors

ARRAYS: dict[str, NDArray[np.float32]] = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "longer.name": np.ones(5, np.float32),
}


def lazy(name: str, made: list[str]) -> LazyTensor:
    def make() -> NDArray[np.float32]:
        made.append(name)
        return ARRAYS[name]

    return LazyTensor(name, ARRAYS[name].shape, make)


def test_written_file_is_read_by_the_library(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"

    write_safetensors(path, [lazy(name, []) for name in ARRAYS])

    read = load_file(path)
    assert set(read) == set(ARRAYS)
    assert all(np.array_equal(read[name], array) for name, array in ARRAYS.items())


def test_one_tensor_is_made_at_a_time_and_told(tmp_path: Path) -> None:
    made: list[str] = []
    reports: list[tuple[int, int, list[str]]] = []

    write_safetensors(
        tmp_path / "x.safetensors",
        [lazy(name, made) for name in ARRAYS],
        progress=lambda stage, done, total, note: reports.append((done, total, list(made))),
    )

    assert reports == [(1, 2, ["a"]), (2, 2, ["a", "longer.name"])]
