"""A disk that fills up while an adapter is written: one error with the name of the file, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

from tests.processes import run_python_with_file_limit

WRITE_ALL = """
import sys
from pathlib import Path
import numpy as np
from engram_bench.adapters.files import read_tensors, write_json, write_tensors
from engram_bench.adapters.layout import LoraUpdate, write_mlx, write_peft
from engram_bench.backends.common.training_state import save_state
from engram_bench.errors import EngramBenchError
from engram_bench.memory.files import StoredMemory, save_memory
from engram_bench.memory.config import MemoryConfig
from engram_bench.memory.table import RowTable
from engram_bench.memory.files import Layer
from engram_bench.records import Recipe
from engram_bench.records.training_log import TrainingLog
from engram_bench.routing.discriminant import Discriminant

folder = Path(sys.argv[1])


def state(path, size):
    curriculum = type("Curriculum", (), {"state": dict})()
    save_state(path / "training_state.safetensors", "identity", {"a": np.zeros(size, np.float32)}, TrainingLog(), curriculum)


def memory(size):
    layer = Layer(np.zeros((1, 56), np.float32), np.zeros((56, size), np.float32), 1.0)
    return StoredMemory(RowTable(MemoryConfig(layers=(0,))), {0: layer}, "f", "f")


def update(size):
    return {"model.layers.0.self_attn.q_proj": LoraUpdate(np.zeros((1, size), np.float32), np.zeros((4, 1), np.float32), 1.0)}


writers = {
    "weights": lambda path, size: write_tensors(path / "adapter_model.safetensors", {"a": np.zeros(size, np.float32)}),
    "peft": lambda path, size: write_peft(path, update(size), Recipe(rank=1, alpha=1.0), base="b"),
    "mlx": lambda path, size: write_mlx(path, update(size), num_layers=1),
    "json": lambda path, size: write_json(path / "adapter_config.json", {"a": "x" * size}),
    "state": state,
    "memory": lambda path, size: save_memory(path, memory(size)),
    "router": lambda path, size: Discriminant(np.zeros(size, np.float32), 0.0, np.zeros(3)).save(path / "router-0.safetensors"),
}
for name, write in writers.items():
    path = folder / name
    path.mkdir()
    write(path, 8)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    try:
        write(path, 100_000)
    except EngramBenchError as error:
        print(str(error).replace(str(folder), ""))
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before, name
    write(path, 8)
"""


def test_every_writer_of_an_adapter_says_which_file_is_missing_and_leaves_the_old_one(tmp_path: Path) -> None:
    shown = run_python_with_file_limit(50_000, WRITE_ALL, tmp_path)

    assert shown.splitlines() == [
        f"/{name}: cannot be written: File too large"
        for name in (
            "weights/adapter_model.safetensors",
            "peft/adapter_model.safetensors",
            "mlx/adapters.safetensors",
            "json/adapter_config.json",
            "state/training_state.safetensors",
            "memory/memory.safetensors",
            "router/router-0.safetensors",
        )
    ]
