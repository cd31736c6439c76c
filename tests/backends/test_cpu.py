"""The cpu backend keeps the contract on four architectures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("torch")

from engram_bench.backends.cpu import CpuBackend
from engram_bench.models import Model
from tests.backends.contract import EXAMPLES, BackendContract, weights_of
from tests.tiny_models import TINY_MODELS


class OnTinyModel(BackendContract):
    kind: ClassVar[str]

    @classmethod
    def make_backend(cls) -> CpuBackend:
        return CpuBackend()

    @classmethod
    def make_model(cls, folder: Path) -> Model:
        return Model(cls.kind, TINY_MODELS[cls.kind](folder), fingerprint=cls.kind)


class TestCpuBackendOnLlama(OnTinyModel):
    kind = "llama"


class TestCpuBackendOnQwen2(OnTinyModel):
    kind = "qwen2"


class TestCpuBackendOnGemma(OnTinyModel):
    kind = "gemma"


class TestCpuBackendOnPhi(OnTinyModel):
    kind = "phi"
    recipe = replace(BackendContract.recipe, targets=("q_proj", "v_proj", "dense", "fc1", "fc2"))


def test_an_interrupted_training_goes_on_to_the_same_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram_bench.backends.cpu.training.STATE_EVERY_S", 0.0)
    model = Model("llama", TINY_MODELS["llama"](tmp_path / "model"), fingerprint="llama")
    recipe = replace(BackendContract.recipe, steps=12, stop_at_recall=False)
    folders = {name: tmp_path / name for name in ("whole", "cut")}
    for folder in folders.values():
        folder.mkdir()
    CpuBackend().train(model, EXAMPLES, recipe, folders["whole"])

    with pytest.raises(KeyboardInterrupt):
        CpuBackend().train(model, EXAMPLES, recipe, folders["cut"], progress=stop_at_step_8)
    resumed = CpuBackend().train(model, EXAMPLES, recipe, folders["cut"])

    assert weights_of(folders["cut"]) == weights_of(folders["whole"])
    assert len(resumed.losses) == resumed.steps == 12


def stop_at_step_8(stage: str, done: int, total: int, note: str) -> None:
    if done == 8:
        raise KeyboardInterrupt
