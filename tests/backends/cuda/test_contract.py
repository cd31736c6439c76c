"""The cuda backend keeps the contract on four architectures.

Importing Unsloth patches transformers for the whole process, so these tests have one of their own: ``make test-backends``
runs them with ``ENGRAM_UNSLOTH_CPU=1``. On a machine with an NVIDIA GPU they run on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_bench.backends.registry import unavailable_reason

if reason := unavailable_reason("cuda"):
    pytest.skip(reason, allow_module_level=True)

from engram_bench.backends.cuda import UnslothBackend, runtime
from engram_bench.errors import AdapterError
from engram_bench.models import Model
from engram_bench.records import Prompt
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


@pytest.mark.parametrize("fused", [False, True], ids=["attached", "fused"])
def test_adapter_beyond_lora_is_computed_by_peft_under_unsloth(tmp_path: Path, fused: bool) -> None:
    """Unsloth patches transformers and PEFT; the answers are still those of PEFT with plain transformers."""
    model = Model("tiny", TINY_MODELS["llama"](tmp_path / "model"), fingerprint="tiny")
    backend = UnslothBackend()
    oracle = dora(model, tmp_path / "dora")
    ids = model.tokenizer.encode_prompt(Prompt("What is the capital of France?"))

    generator = backend.load(model, tmp_path / "dora", fused=fused)

    change = np.abs(generator.log_probs([ids])[0] - oracle(ids)).max()
    assert change < (5e-3 if runtime.is_accelerated() else 1e-4)


def test_adapter_beyond_lora_needs_full_weights(tmp_path: Path) -> None:
    model = Model("tiny", TINY_MODELS["llama"](tmp_path / "model"), fingerprint="tiny")
    dora(model, tmp_path / "dora")

    with pytest.raises(AdapterError, match="expected no --engram-load-in-4bit"):
        UnslothBackend(load_in_4bit=True).load(model, tmp_path / "dora")


def dora(model: Model, folder: Path) -> Callable[[list[int]], NDArray[np.float32]]:
    """Log-probabilities by PEFT with a random DoRA on the processor; PEFT saves the DoRA in *folder*."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], use_dora=True)
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for values in wrapped.parameters():
            if values.requires_grad:
                values.add_(torch.randn_like(values) * 0.05)
    wrapped.save_pretrained(str(folder))

    def log_probs(ids: list[int]) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = wrapped(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
        return found

    return log_probs
