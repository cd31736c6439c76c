"""The cpu backend keeps the contract on four architectures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch")

from engram_bench.backends.common.training_loop import Trainer
from engram_bench.backends.torch import CpuBackend
from engram_bench.errors import BackendError
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


@pytest.mark.slow
class TestCpuBackendOnGemma(OnTinyModel):
    kind = "gemma"


@pytest.mark.slow
class TestCpuBackendOnPhi(OnTinyModel):
    kind = "phi"
    recipe = replace(BackendContract.recipe, targets=("q_proj", "v_proj", "dense", "fc1", "fc2"))


def test_an_interrupted_training_goes_on_to_the_same_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram_bench.backends.common.training_loop.STATE_EVERY_S", 0.0)
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


def test_training_halves_its_passes_for_good_once_memory_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model("llama", TINY_MODELS["llama"](tmp_path / "model"), fingerprint="llama")
    tried = limited_memory(monkeypatch, fits_in=100)
    (tmp_path / "adapter").mkdir()

    record = CpuBackend().train(model, EXAMPLES, replace(BackendContract.recipe, steps=2), tmp_path / "adapter")

    assert record.steps == 2
    assert len(tried) == 3
    assert tried[0] > 100
    assert tried[1:] == [tried[0] // 2] * 2


def test_training_memory_that_runs_out_twice_is_an_error_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model("llama", TINY_MODELS["llama"](tmp_path / "model"), fingerprint="llama")
    limited_memory(monkeypatch, fits_in=1)

    with pytest.raises(
        BackendError,
        match=r"training 4 examples of up to \d+ tokens: memory ran out with \d+ tokens at once and with \d+",
    ):
        CpuBackend().train(model, EXAMPLES, BackendContract.recipe, tmp_path)


def test_a_model_that_memory_does_not_hold_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 44 bytes")

    monkeypatch.setattr(CpuBackend, "_open_network", too_large)

    with pytest.raises(BackendError, match=r"loading llama: memory ran out.*tried to allocate 44 bytes"):
        CpuBackend().load(Model("llama", tmp_path, fingerprint="llama"), None)


def limited_memory(monkeypatch: pytest.MonkeyPatch, *, fits_in: int) -> list[int]:
    """Let a step fail whose passes may hold more than *fits_in* tokens; the bounds that were tried."""
    tried: list[int] = []
    accumulate = Trainer._accumulate

    def accumulate_if_it_fits(self: Trainer, indices: Any, max_tokens: int, step: int) -> float:
        tried.append(max_tokens)
        if max_tokens > fits_in:
            raise MemoryError
        return accumulate(self, indices, max_tokens, step)

    monkeypatch.setattr(Trainer, "_accumulate", accumulate_if_it_fits)
    return tried
