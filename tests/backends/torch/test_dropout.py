"""Dropout leaves out the same values however examples are packed, split and computed, and none when recall is looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engram_bench.backends.common.packing import pack, pad
from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.dropout import Dropout
from engram_bench.backends.torch.lora import Lora
from engram_bench.backends.torch.network import Network
from engram_bench.models import Model
from tests.backends.contract import EXAMPLES, weights_of
from tests.backends.torch.test_training import (
    LONG,
    RECIPE,
    network_of,
    random_lora,
    relative_difference,
    rows_and_labels,
)
from tests.tiny_models import TINY_MODELS

DROPPED = replace(RECIPE, lora_dropout=0.3)
Q = "model.layers.3.self_attn.q_proj"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny/llama", TINY_MODELS["llama"](tmp_path_factory.mktemp("llama")), fingerprint="llama")


def dropout(rate: float = 0.3, *, seed: int = 0, step: int = 0, packed: bool = True) -> Dropout:
    inputs = [ids[:-1] for ids, _ in LONG]
    return Dropout.of(pack(inputs) if packed else pad(inputs, pad_id=0), rate, seed=seed, step=step, device="cpu")


def test_the_rate_is_left_out_and_the_mean_stays() -> None:
    factor = dropout().factor(Q, 4096)

    assert np.unique(factor.numpy()).tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float((factor == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float((factor == 0).float().mean(0).std()) == pytest.approx((0.3 * 0.7 / len(factor)) ** 0.5, rel=0.1)


def test_seed_step_block_and_group_each_leave_out_other_values() -> None:
    usual = dropout().factor(Q, 64)

    assert torch.equal(usual, dropout().factor(Q, 64))
    assert torch.equal(usual, dropout().factor("model.layers.3.self_attn.v_proj", 64))  # q, k and v have one input
    for other in (
        dropout(seed=1).factor(Q, 64),
        dropout(step=1).factor(Q, 64),
        dropout().factor(Q.replace("3", "4"), 64),
        dropout().factor(Q.replace("q_proj", "o_proj"), 64),
    ):
        assert float((usual == other).float().mean()) == pytest.approx(0.58, abs=0.03)  # 0.3² + 0.7²


def test_a_token_is_dropped_alike_in_packed_and_padded_rows() -> None:
    inputs = [ids[:-1] for ids, _ in LONG]
    packed, padded = dropout().factor(Q, 16), dropout(packed=False).factor(Q, 16)

    for one, other in zip(pack(inputs).paths, pad(inputs, pad_id=0).paths, strict=True):
        assert torch.equal(packed[one], padded[other])


def gradient_of(network: Network, lora: Lora, *, packed: bool) -> tuple[np.ndarray, np.ndarray]:
    inputs = [ids[:-1] for ids, _ in LONG]
    batch = pack(inputs) if packed else pad(inputs, pad_id=0)
    rows, labels = rows_and_labels(batch, LONG)
    gradient = lora.require_gradients()
    lora.dropout = Dropout.of(batch, 0.3, seed=0, step=5, device="cpu")
    losses = network.gradients(lora, torch.float32).loss_and_gradients(batch, rows, labels, 1 / len(labels))
    return losses, gradient.numpy().copy()


@pytest.mark.parametrize("kept_tokens", [1024, 100], ids=["kept", "computed-again"])
def test_the_written_out_backward_pass_with_dropout_is_autograds(
    model: Model, monkeypatch: pytest.MonkeyPatch, kept_tokens: int
) -> None:
    monkeypatch.setattr("engram_bench.backends.torch.llama.gradients.KEPT_TOKENS", kept_tokens)
    ours, theirs = (network_of(model.folder, lean=lean) for lean in (True, False))
    bare = random_lora(ours)
    without = ours.gradients(bare, torch.float32)

    losses, gradient = gradient_of(ours, random_lora(ours), packed=True)
    expected_losses, expected = gradient_of(theirs, random_lora(theirs), packed=False)

    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4, atol=1e-4)
    assert relative_difference(gradient, expected) < 1e-4
    batch = pack([ids[:-1] for ids, _ in LONG])
    assert np.abs(without.losses(batch, *rows_and_labels(batch, LONG)) - losses).max() > 1e-3


@pytest.mark.parametrize("options", [{"packing": False}, {"lean": False}, {"max_batch_tokens": 60}], ids=str)
def test_every_shortcut_trains_the_same_adapter_with_dropout(
    model: Model, tmp_path: Path, options: Mapping[str, Any]
) -> None:
    losses = []
    for name, settings in {"plain": {}, "other": options}.items():
        (tmp_path / name).mkdir()
        backend = CpuBackend(products="float32", **settings)
        losses.append(backend.train(model, EXAMPLES, DROPPED, tmp_path / name).losses)

    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3, atol=1e-3)


def test_training_with_dropout_repeats_and_is_in_the_adapters_files(model: Model, tmp_path: Path) -> None:
    for name, recipe in {"one": DROPPED, "two": DROPPED, "none": RECIPE}.items():
        (tmp_path / name).mkdir()
        CpuBackend().train(model, EXAMPLES, recipe, tmp_path / name)

    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "two") != weights_of(tmp_path / "none")
    assert json.loads((tmp_path / "one" / "adapter_config.json").read_text())["lora_dropout"] == 0.3


def test_recall_is_looked_at_without_dropout(model: Model, tmp_path: Path) -> None:
    record = CpuBackend().train(
        model, EXAMPLES, replace(DROPPED, steps=200, stop_at_recall=True, lora_dropout=0.2), tmp_path
    )

    assert record.recall == 1.0
    assert record.steps < 200
