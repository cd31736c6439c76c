"""An adapter that cannot be opened is known from its files alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engram_bench.adapters.layout import LoraUpdate, write_peft
from engram_bench.adapters.opening import check_opens, check_opens_in_mlx
from engram_bench.errors import AdapterError
from engram_bench.models import Model
from engram_bench.records import Recipe
from tests.tiny_models import make_tiny_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny", make_tiny_llama(tmp_path_factory.mktemp("llama")), "f" * 64)


def lora(folder: Path, *, outputs: int = 64) -> Path:
    update = LoraUpdate(np.ones((2, 64), np.float32), np.ones((outputs, 2), np.float32), 1.0)
    folder.mkdir(exist_ok=True)
    write_peft(folder, {"model.layers.0.self_attn.q_proj": update}, Recipe(rank=2, alpha=2.0), base="tiny")
    return folder


def test_a_lora_of_the_model_opens_and_the_bare_model_too(model: Model, tmp_path: Path) -> None:
    check_opens(model, lora(tmp_path))
    check_opens(model, None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "adapter_config.json").unlink(),
            "no adapter_config.json beside adapter_model.safetensors",
        ),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"cut"), "cut off or damaged"),
        (lambda folder: (folder / "memory.json").write_text("{", "utf-8"), "memory.json"),
        (lambda folder: lora(folder, outputs=32), "adapts layers of other sizes"),
    ],
    ids=["no-config", "cut", "memory", "other-sizes"],
)
def test_what_loading_would_refuse_is_refused(model: Model, tmp_path: Path, spoil, message: str) -> None:  # type: ignore[no-untyped-def]
    spoil(lora(tmp_path))

    with pytest.raises(AdapterError, match=message):
        check_opens(model, tmp_path)


def test_what_a_library_computes_itself_is_left_to_the_library(model: Model, tmp_path: Path) -> None:
    config = lora(tmp_path / "peft") / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    (tmp_path / "mlx").mkdir()
    save_file({"model.layers.0.norm.weight": np.ones(64, np.float32)}, tmp_path / "mlx" / "adapters.safetensors")
    (tmp_path / "mlx" / "adapter_config.json").write_text('{"fine_tune_type": "full"}')

    check_opens(model, tmp_path / "peft")
    check_opens_in_mlx(model, tmp_path / "mlx")
    with pytest.raises(AdapterError, match="use_dora"):
        check_opens_in_mlx(model, tmp_path / "peft")
    with pytest.raises(AdapterError, match="expected --engram-backend=mlx"):
        check_opens(model, tmp_path / "mlx")
