"""The cuda backend keeps the contract on four architectures.

Importing Unsloth patches transformers for the whole process, so these tests have one of their own: ``make test-backends``
runs them with ``ENGRAM_UNSLOTH_CPU=1``. On a machine with an NVIDIA GPU they run on it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from engram_bench.backends.registry import unavailable_reason

if reason := unavailable_reason("cuda"):
    pytest.skip(reason, allow_module_level=True)

from engram_bench.backends.cuda import UnslothBackend
from engram_bench.models import Model
from tests.backends.contract import BackendContract
from tests.conftest import TWO_FACTS
from tests.tiny_models import TINY_MODELS


class OnTinyModel(BackendContract):
    kind: ClassVar[str]

    @classmethod
    def make_backend(cls) -> UnslothBackend:
        return UnslothBackend()

    @classmethod
    def make_model(cls, folder: Path) -> Model:
        return Model(cls.kind, TINY_MODELS[cls.kind](folder), fingerprint=cls.kind)


class TestUnslothBackendOnLlama(OnTinyModel):
    kind = "llama"


class TestUnslothBackendOnPaddedRows(OnTinyModel):
    """The form sequences have on a GPU, where Unsloth's attention takes no masks."""

    kind = "llama"

    @classmethod
    def make_backend(cls) -> UnslothBackend:
        return UnslothBackend(packing=False)


class TestUnslothBackendOnQwen2(OnTinyModel):
    kind = "qwen2"


class TestUnslothBackendOnGemma(OnTinyModel):
    kind = "gemma"


class TestUnslothBackendOnPhi(OnTinyModel):
    kind = "phi"
    recipe = replace(BackendContract.recipe, targets=("q_proj", "v_proj", "dense", "fc1", "fc2"))


def test_a_project_is_trained_answered_and_exported_on_unsloth(pytester: pytest.Pytester) -> None:
    """The whole journey in a process where pytest, the plugin and Unsloth meet, warnings being errors."""
    TINY_MODELS["llama"](pytester.path / "tiny")
    (pytester.path / "patterns").mkdir()
    (pytester.path / "patterns" / "facts.yaml").write_text(TWO_FACTS)
    arguments = ("--backend=cuda", "--engram-model=tiny", "-m", "accuracy or parity", "-W", "error", "patterns")

    result = pytester.runpytest_subprocess(*arguments, "--engram-gate=accuracy >= +0pp", "--engram-steps=200")

    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["backend  cuda, *", "adapter *"])
