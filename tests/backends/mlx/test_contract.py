"""The mlx backend keeps the contract on four architectures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from engram_bench.backends.registry import unavailable_reason
from engram_bench.models import Model
from tests.backends.contract import BackendContract
from tests.tiny_models import TINY_MODELS

if unavailable_reason("mlx"):  # importing mlx to find out would be too early for its BLAS
    pytest.skip("mlx-lm is not installed", allow_module_level=True)

from engram_bench.backends.mlx import MlxBackend


class OnTinyModel(BackendContract):
    kind: ClassVar[str]

    @classmethod
    def make_backend(cls) -> MlxBackend:
        return MlxBackend()

    @classmethod
    def make_model(cls, folder: Path) -> Model:
        return Model(cls.kind, TINY_MODELS[cls.kind](folder), fingerprint=cls.kind)


class TestMlxBackendOnLlama(OnTinyModel):
    kind = "llama"


class TestMlxBackendOnQwen2(OnTinyModel):
    kind = "qwen2"


@pytest.mark.slow
class TestMlxBackendOnGemma(OnTinyModel):
    kind = "gemma"


@pytest.mark.slow
class TestMlxBackendOnPhi(OnTinyModel):
    kind = "phi"
    recipe = replace(BackendContract.recipe, targets=("q_proj", "v_proj", "dense", "fc1", "fc2"))
