"""A model folder with an adapter's updates in its weights, written tensor by tensor with numpy."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters.layout import LoraUpdate, Updates
from engram_bench.errors import ModelError
from engram_bench.models.folder import read_json
from engram_bench.models.tensors import StoredTensor, stored_tensors
from engram_bench.models.weights import LazyTensor, write_safetensors
from engram_bench.system.progress import Progress, no_progress
from engram_bench.system.reading import check_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COPIED = ("*.json", "*.jinja", "*.txt", "*.model")
"""Settings, tokenizer and chat template, which an adapter leaves alone."""


def write_merged(source: Path, updates: Updates, folder: Path, *, progress: Progress = no_progress) -> None:
    """Write into *folder* the model of *source* with W + scale · B A for every updated layer.

    Weights are fp32 whatever they were: in 16 bits the sum would be rounded, and answers could differ from the attached
    adapter's.

    Raises:
        ModelError: The model is quantized, or a layer's weights are in no file of *source*.
    """
    config = read_json(source / "config.json")
    if config.get("quantization_config"):
        msg = f"{source}: the model is quantized, expected full weights to merge into"
        raise ModelError(msg)
    tensors = stored_tensors(source)
    missing = [name for name in updates if f"{name}.weight" not in tensors]
    if missing:
        msg = f"{source}: no tensor {missing[0]}.weight, expected one for every adapted layer"
        raise ModelError(msg)
    for pattern in COPIED:
        for path in source.glob(pattern):
            if not path.name.endswith(".safetensors.index.json"):
                check_regular(path, inside=source)
                shutil.copyfile(path, folder / path.name)
    (folder / "config.json").write_text(
        json.dumps(
            {**config, "dtype": "float32", **({"torch_dtype": "float32"} if "torch_dtype" in config else {})}, indent=2
        ),
        encoding="utf-8",
    )
    merged = [
        LazyTensor(name, tensor.shape, partial(_sum, tensor, updates.get(name.removesuffix(".weight"))))
        for name, tensor in tensors.items()
    ]
    write_safetensors(folder / "model.safetensors", merged, progress=progress)


def _sum(tensor: StoredTensor, update: LoraUpdate | None) -> NDArray[np.float32]:
    import numpy as np

    weight = tensor.read()
    return weight if update is None else weight + np.float32(update.scale) * (update.b @ update.a)
