"""Every form of an adapter, on a tiny model and the cpu backend."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from engram_bench.adapters import store as adapter_store
from engram_bench.backends.torch import CpuBackend
from engram_bench.errors import UsageError
from engram_bench.inference.forms import FORMS, open_form
from engram_bench.models import Model
from engram_bench.records import GenerationSettings
from tests.backends.contract import EXAMPLES, PROMPTS, BackendContract, texts
from tests.tiny_models import TINY_MODELS

SETTINGS = GenerationSettings(max_tokens=40)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny", TINY_MODELS["llama"](tmp_path_factory.mktemp("model")), fingerprint="t" * 64)


@pytest.fixture(scope="module")
def adapter(model: Model, tmp_path_factory: pytest.TempPathFactory) -> adapter_store.Adapter:
    folder = tmp_path_factory.mktemp("adapter")
    CpuBackend().train(model, EXAMPLES, BackendContract.recipe, folder)
    return adapter_store.load(folder)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_answers_as_trained(form: str, model: Model, adapter: adapter_store.Adapter, tmp_path: Path) -> None:
    generator = open_form(form, CpuBackend(), model, adapter, tmp_path)

    assert texts(generator.complete(PROMPTS, SETTINGS)) == [example.answer for example in EXAMPLES]


def test_an_unknown_form_lists_the_known_ones(model: Model, adapter: adapter_store.Adapter, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'onnx', expected fused, merged, peft, mlx"):
        open_form("onnx", CpuBackend(), model, adapter, tmp_path)
