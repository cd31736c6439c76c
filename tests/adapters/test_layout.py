"""Adapters between PEFT's layout and mlx-lm's, without either library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engram_bench.adapters.layout import (
    LoraUpdate,
    check_fits,
    read_mlx,
    read_peft,
    write_mlx,
    write_peft,
)
from engram_bench.adapters.targets import adapted_layers
from engram_bench.errors import AdapterError
from engram_bench.records import Recipe

Q, DOWN = "model.layers.2.self_attn.q_proj", "model.layers.10.mlp.down_proj"
SHAPES = {Q: (6, 4), DOWN: (4, 8)}


def update(name: str, *, rank: int = 2, scale: float = 2.0) -> LoraUpdate:
    outputs, inputs = SHAPES[name]
    random = np.random.default_rng(len(name) + rank)
    a, b = random.normal(size=(rank, inputs)), random.normal(size=(outputs, rank))
    return LoraUpdate(a.astype(np.float32), b.astype(np.float32), scale)


def product(one: LoraUpdate) -> np.ndarray:
    return one.scale * one.b @ one.a


@pytest.fixture
def peft(tmp_path: Path) -> Any:
    """A folder in PEFT's layout that adapts two layers."""
    write_peft(tmp_path, {DOWN: update(DOWN), Q: update(Q)}, Recipe(rank=2, alpha=4.0), base="org/model")
    return tmp_path


def edit(path: Any, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_peft_files_carry_the_names_and_shapes_peft_reads(peft: Any) -> None:
    tensors = load_file(peft / "adapter_model.safetensors")
    config = json.loads((peft / "adapter_config.json").read_text())

    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight": (2, 4),
        "base_model.model.model.layers.2.self_attn.q_proj.lora_B.weight": (6, 2),
        "base_model.model.model.layers.10.mlp.down_proj.lora_A.weight": (2, 8),
        "base_model.model.model.layers.10.mlp.down_proj.lora_B.weight": (4, 2),
    }
    assert config["peft_type"] == "LORA"
    assert config["task_type"] == "CAUSAL_LM"
    assert (config["r"], config["lora_alpha"]) == (2, 4)
    assert config["target_modules"] == ["down_proj", "q_proj"]
    assert config["base_model_name_or_path"] == "org/model"


def test_peft_round_trip_keeps_every_number_and_sorts_by_block(peft: Any) -> None:
    updates = read_peft(peft)

    assert list(updates) == [Q, DOWN]
    for name, found in updates.items():
        expected = update(name)
        np.testing.assert_array_equal(found.a, expected.a)
        np.testing.assert_array_equal(found.b, expected.b)
        assert found.scale == 2.0


def test_mlx_round_trip_keeps_every_number(peft: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mlx"
    folder.mkdir()
    write_mlx(folder, read_peft(peft), num_layers=11)

    tensors = load_file(folder / "adapters.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert tensors[f"{Q}.lora_a"].shape == (4, 2)
    assert tensors[f"{Q}.lora_b"].shape == (2, 6)
    assert config["num_layers"] == 11
    assert config["lora_parameters"] == {
        "rank": 2,
        "scale": 2.0,
        "dropout": 0.0,
        "keys": ["mlp.down_proj", "self_attn.q_proj"],
    }
    for name, found in read_mlx(folder).items():
        np.testing.assert_array_equal(product(found), product(update(name)))


def test_mlx_takes_mixed_ranks_and_scales_without_changing_a_product(tmp_path: Path) -> None:
    updates = {Q: update(Q, rank=1, scale=0.5), DOWN: update(DOWN, rank=3, scale=2.0)}

    write_mlx(tmp_path, updates, num_layers=11)

    found = read_mlx(tmp_path)
    assert {one.rank for one in found.values()} == {3}
    for name, one in updates.items():
        np.testing.assert_allclose(product(found[name]), product(one), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"lora_alpha": 16}, 8.0),
        ({"use_rslora": True, "lora_alpha": 3}, 3 / 2**0.5),
        ({"alpha_pattern": {"q_proj": 8}}, 4.0),
        ({"alpha_pattern": {"layers.2.self_attn.q_proj": 1}}, 0.5),
        ({"alpha_pattern": {"k_proj": 99}}, 2.0),
    ],
    ids=["alpha-over-r", "rank-stabilised", "pattern", "pattern-path", "pattern-elsewhere"],
)
def test_scale_follows_the_config(peft: Any, changes: Any, scale: Any) -> None:
    edit(peft / "adapter_config.json", **changes)

    assert read_peft(peft)[Q].scale == pytest.approx(scale)


def test_bfloat16_and_adapter_names_of_peft_checkpoints_are_read(peft: Any) -> None:
    """PEFT writes ``.default`` into names saved without its own save function; torch users train in bfloat16."""
    header, data = {}, b""
    for key, shape in {f"{Q}.lora_A.default.weight": [2, 4], f"{Q}.lora_B.default.weight": [6, 2]}.items():
        size = shape[0] * shape[1] * 2
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + size]}
        data += np.full(shape, 0x3FC0, np.uint16).tobytes()  # 1.5
    text = json.dumps(header).encode()
    (peft / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)

    assert (read_peft(peft)[Q].a == 1.5).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is True, which is more than plain LoRA: expected backend cpu or cuda"),
        ({"bias": "all"}, "bias is 'all', which is more than plain LoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head']"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', which is more than plain LoRA"),
        ({"r": 0}, "r is 0, expected a positive number"),
        ({"lora_alpha": "16"}, "lora_alpha is '16', expected a positive number"),
    ],
    ids=["dora", "bias", "saved-modules", "other-kind", "rank-zero", "alpha-text"],
)
def test_config_of_another_kind_is_refused(peft: Any, changes: Any, message: Any) -> None:
    edit(peft / "adapter_config.json", **changes)

    with pytest.raises(AdapterError, match=re.escape(message)):
        read_peft(peft)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"base_model.model.{Q}.lora_A.weight": (2, 4)}, "A and B of shapes (2, 4) and None"),
        (
            {f"base_model.model.{Q}.lora_A.weight": (2, 4), f"base_model.model.{Q}.lora_B.weight": (6, 3)},
            "A and B of shapes (2, 4) and (6, 3), expected (r, in) and (out, r)",
        ),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": (2, 4)}, "embed_tokens.lora_embedding_A', which is"),
    ],
    ids=["no-partner", "two-ranks", "embedding"],
)
def test_tensors_that_are_no_pair_are_refused(peft: Any, tensors: Any, message: Any) -> None:
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in tensors.items()}, peft / "adapter_model.safetensors"
    )

    with pytest.raises(AdapterError, match=re.escape(message)):
        read_peft(peft)


def test_cut_weights_are_refused(peft: Any) -> None:
    path = peft / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: cut off or damaged"):
        read_peft(peft)


def test_weights_that_are_not_finite_are_refused(peft: Any) -> None:
    tensors = load_file(peft / "adapter_model.safetensors")
    name = next(iter(tensors))
    save_file(tensors | {name: np.full_like(tensors[name], np.nan)}, peft / "adapter_model.safetensors")

    with pytest.raises(AdapterError, match="holds NaN"):
        read_peft(peft)


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_file_is_named(peft: Any, missing: Any) -> None:
    (peft / missing).unlink()

    with pytest.raises(AdapterError, match=re.escape(f"{peft / missing}: not found")):
        read_peft(peft)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({Q: (6, 4)}, f"adapts {DOWN}, which this model has not; its linear layers are q_proj"),
        ({Q: (6, 5), DOWN: (4, 8)}, f"adapts layers of other sizes: {Q} (6, 4), expected (6, 5)"),
    ],
    ids=["unknown-layer", "other-size"],
)
def test_adapter_of_another_model_is_refused(peft: Any, shapes: Any, message: Any) -> None:
    with pytest.raises(AdapterError, match=re.escape(message)):
        check_fits(peft, read_peft(peft), shapes)


def test_adapter_of_this_model_fits(peft: Any) -> None:
    check_fits(peft, read_peft(peft), SHAPES)


def test_targets_name_layers_by_their_last_word() -> None:
    assert adapted_layers(Recipe(targets=("down_proj",)), SHAPES) == [DOWN]


@pytest.mark.parametrize(
    ("targets", "message"),
    [(["q_proj", "fc1"], "targets fc1, not in this model; expected some of q_proj, down_proj"), ([], "targets none")],
    ids=["unknown", "empty"],
)
def test_unknown_targets_are_refused(targets: Any, message: Any) -> None:
    with pytest.raises(AdapterError, match=message):
        adapted_layers(Recipe(targets=tuple(targets)), SHAPES)


BLOCKS = {f"model.layers.{block}.{name}": (4, 4) for block in range(4) for name in ("self_attn.q_proj", "mlp.up_proj")}


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [("all", {0, 1, 2, 3}), ("first 1", {0}), ("last 2", {2, 3}), ("1-2", {1, 2}), ("3-3", {3})],
)
def test_a_recipe_adapts_some_blocks(layers: str, blocks: set[int]) -> None:
    found = adapted_layers(Recipe(targets=("q_proj",), layers=layers), BLOCKS)

    assert found == [f"model.layers.{block}.self_attn.q_proj" for block in sorted(blocks)]


@pytest.mark.parametrize("layers", ["last 5", "2-4", "3-2"])
def test_blocks_that_a_model_has_not_are_refused(layers: str) -> None:
    with pytest.raises(AdapterError, match=f"layers is '{layers}', but this model has 4 blocks"):
        adapted_layers(Recipe(targets=("q_proj",), layers=layers), BLOCKS)


def test_all_linear_layers_and_paths_can_be_targets() -> None:
    assert adapted_layers(Recipe(targets=("all-linear",)), BLOCKS) == list(BLOCKS)
    assert adapted_layers(Recipe(targets=(r"/.*[02]\.mlp.*/",)), BLOCKS) == [
        "model.layers.0.mlp.up_proj",
        "model.layers.2.mlp.up_proj",
    ]
    with pytest.raises(AdapterError, match="targets /nowhere/, not in this model"):
        adapted_layers(Recipe(targets=("/nowhere/",)), BLOCKS)


def test_an_adapter_of_some_blocks_names_its_layers_by_path(tmp_path: Path) -> None:
    write_peft(tmp_path, {Q: update(Q)}, Recipe(rank=2, alpha=4.0, layers="last 1", use_rslora=True), base="org/model")

    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["target_modules"], config["use_rslora"]) == ([Q], True)
    assert read_peft(tmp_path)[Q].scale == pytest.approx(4 / 2**0.5)
