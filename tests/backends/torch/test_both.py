"""A memory and a LoRA in one adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from engram_bench.backends.torch import CpuBackend, both_recipe
from engram_bench.backends.torch.lora import load_lora
from engram_bench.errors import BackendError
from engram_bench.memory.files import WEIGHTS_FILE, load_memory_files
from engram_bench.memory.query import Query
from engram_bench.memory.table import KeyedExample
from engram_bench.models import Model
from engram_bench.records import Prompt, Recipe, TrainingRecord
from engram_bench.system.progress import no_progress
from tests.backends.contract import EXAMPLES, PROMPTS, SHORT, texts
from tests.tiny_models import TINY_MODELS

RECIPE = Recipe(
    kind="both",
    steps=60,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=5,
    options={"layers": "1", "row_size": 32},
)
ANSWERS = [example.answer for example in EXAMPLES]
LONG = replace(SHORT, max_tokens=40)


def ordered(order: str, **fields: Any) -> Recipe:
    return replace(RECIPE, options={**RECIPE.options, "order": order}, **fields)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny", TINY_MODELS["llama"](tmp_path_factory.mktemp("model")), fingerprint="tiny")


@pytest.fixture(scope="module")
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture(scope="module")
def trained(backend: CpuBackend, model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingRecord]:
    folder = tmp_path_factory.mktemp("both")
    return folder, backend.train(model, EXAMPLES, RECIPE, folder)


def test_both_parts_know_the_examples_and_each_alone(trained: tuple[Path, TrainingRecord]) -> None:
    _, record = trained

    assert record.recall == 1.0
    assert set(record.recall_alone) == {"memory", "lora"}
    assert record.recall_alone["memory"] == 1.0
    assert record.recall_alone["lora"] > 0.5


def test_one_folder_answers_with_both_parts(
    backend: CpuBackend, model: Model, trained: tuple[Path, TrainingRecord]
) -> None:
    folder, _ = trained

    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "memory.json",
        "memory.safetensors",
    }
    for fused in (False, True):
        assert texts(backend.load(model, folder, fused=fused).complete(PROMPTS, LONG)) == ANSWERS


@pytest.mark.parametrize("order", ["lora-first", "joint"])
def test_other_orders_recall_as_well(order: str, backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    record = backend.train(model, EXAMPLES, ordered(order), tmp_path)

    assert record.recall == 1.0
    assert texts(backend.load(model, tmp_path).complete(PROMPTS, LONG)) == ANSWERS


def test_rows_learn_jointly(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    record = backend.train(model, EXAMPLES, ordered("joint"), tmp_path)

    assert record.recall_alone["memory"] > 0


def test_rows_that_never_speak_cannot_learn_jointly(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    recipe = replace(ordered("joint"), options={**ordered("joint").options, "silence": 1.0})

    with pytest.raises(BackendError, match=r"silence is 1\.0, expected less than 1 with order joint"):
        backend.train(model, EXAMPLES, recipe, tmp_path)


def test_beside_a_silent_memory_a_lora_is_trained_as_alone(
    backend: CpuBackend, model: Model, trained: tuple[Path, TrainingRecord], tmp_path: Path
) -> None:
    """What the memory knows must not end, or slow, the training of what is to be learned without it."""
    record = backend.train(model, EXAMPLES, replace(RECIPE, kind="lora", options={}), tmp_path)

    assert record.losses == trained[1].losses
    name = "adapter_model.safetensors"
    assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes()


def test_a_pattern_that_both_together_get_wrong_is_left_to_the_lora(
    backend: CpuBackend, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = EXAMPLES[0].prompt.user
    monkeypatch.setattr(both_recipe, "clashes", lambda trained, recalled, examples: [pattern])

    record = backend.train(model, EXAMPLES, RECIPE, tmp_path)

    assert pattern not in load_memory_files(tmp_path, model).table.patterns
    assert record.recall_alone["memory"] == 1 - 1 / len(EXAMPLES)
    assert texts(backend.load(model, tmp_path).complete(PROMPTS, LONG)) == ANSWERS


def test_a_clash_is_what_the_lora_alone_recalls() -> None:
    """Of four examples the first is recalled together, the LoRA knows it and the third."""
    examples = [KeyedExample(name, Query((1, 2), (True, True)), (3,)) for name in "abcd"]
    knows = np.array([True, False, True, False])
    trained = SimpleNamespace(lora=None, recalled=lambda members, lora, companion: knows[members])

    found = both_recipe.clashes(trained, np.array([True, False, False, False]), examples)  # type: ignore[arg-type]

    assert found == ["c"]


def test_rows_are_frozen_while_the_lora_learns(
    backend: CpuBackend, model: Model, trained: tuple[Path, TrainingRecord], tmp_path: Path
) -> None:
    backend.train(model, EXAMPLES, replace(RECIPE, kind="memory"), tmp_path)

    assert (tmp_path / WEIGHTS_FILE).read_bytes() == (trained[0] / WEIGHTS_FILE).read_bytes()


def test_a_memory_that_never_is_silent_leaves_the_lora_less_to_learn(
    backend: CpuBackend, model: Model, trained: tuple[Path, TrainingRecord], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, options={**RECIPE.options, "silence": 0.0})

    record = backend.train(model, EXAMPLES, recipe, tmp_path)

    assert record.recall_alone["lora"] < trained[1].recall_alone["lora"]


@pytest.mark.parametrize(("order", "gate"), [("memory-first", "none"), ("joint", "paper")])
def test_lean_training_is_training_through_transformers(order: str, gate: str, model: Model, tmp_path: Path) -> None:
    """The written-out backward pass goes through what the memory adds as autograd does."""
    recipe = ordered(order, steps=3, stop_at_recall=False)
    recipe = replace(recipe, options={**recipe.options, "gate": gate, "layers": "0,1", "silence": 0.0})
    if gate == "paper":
        recipe = replace(recipe, options={**recipe.options, "near": 0.0, "answers_only": False, "kernel": 2})
    losses = []
    for lean in (True, False):
        folder = tmp_path / str(lean)
        folder.mkdir()
        losses.append(CpuBackend(lean=lean, products="float32").train(model, EXAMPLES, recipe, folder).losses)

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_an_interrupted_training_goes_on(
    backend: CpuBackend, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The joint order has the most to keep: both parts and what their optimizers remember."""
    monkeypatch.setattr("engram_bench.backends.common.training_loop.STATE_EVERY_S", 0.0)
    recipe = ordered("joint", steps=6, stop_at_recall=False)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    backend.train(model, EXAMPLES, recipe, whole)

    def interrupt(stage: str, done: int, total: int, note: str) -> None:
        if note.endswith(" left") and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.train(model, EXAMPLES, recipe, parts, progress=interrupt)
    backend.train(model, EXAMPLES, recipe, parts, progress=no_progress)

    shapes = backend._open(model).shapes
    one, two = (load_lora(folder, shapes, "cpu").values for folder in (whole, parts))
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert (whole / WEIGHTS_FILE).read_bytes() == (parts / WEIGHTS_FILE).read_bytes()


def test_an_unknown_order_is_refused(backend: CpuBackend, model: Model, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="order is 'backwards', expected memory-first or lora-first or joint"):
        backend.train(model, EXAMPLES, ordered("backwards"), tmp_path)


def test_questions_that_were_not_trained_are_the_loras_alone(
    backend: CpuBackend, model: Model, trained: tuple[Path, TrainingRecord], tmp_path: Path
) -> None:
    """Where no n-gram is known the memory adds nothing to what the LoRA makes of it."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    ids = [model.tokenizer.encode_prompt(Prompt("Name a river."))]

    both, lora = (backend.load(model, folder).log_probs(ids)[0] for folder in (trained[0], tmp_path))

    assert (both == lora).all()
