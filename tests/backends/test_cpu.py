"""The cpu backend keeps the contract on four architectures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("torch")

from engram_bench.backends.cpu import CpuBackend
from engram_bench.models import Model
from tests.backends.contract import BackendContract
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
