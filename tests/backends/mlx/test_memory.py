"""A memory on the mlx backend: the same sums as torch's, however they are computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from engram_bench.backends.registry import unavailable_reason

if unavailable_reason("mlx"):  # importing mlx to find out would be too early for its BLAS
    pytest.skip("mlx-lm is not installed", allow_module_level=True)

from engram_bench.backends.mlx import MlxBackend
from engram_bench.backends.torch import CpuBackend
from engram_bench.errors import BackendError
from engram_bench.memory.recipe import train_memory
from engram_bench.models import Model
from engram_bench.records import Prompt, Recipe
from engram_bench.system.progress import no_progress
from tests.backends.contract import EXAMPLES, PROMPTS, SHORT, texts
from tests.tiny_models import TINY_MODELS

RECIPE = Recipe(kind="memory", steps=60, options={"layers": "1", "row_size": 32})
UNKNOWN = [Prompt(text) for text in ("Name a river.", "Why?", "2 + 2")]
ANSWERS = [example.answer for example in EXAMPLES]
LONG = replace(SHORT, max_tokens=40)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny", TINY_MODELS["llama"](tmp_path_factory.mktemp("model")), fingerprint="tiny")


@pytest.fixture(scope="module")
def backend() -> MlxBackend:
    return MlxBackend()


@pytest.fixture(scope="module")
def adapter(backend: MlxBackend, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    assert backend.train(model, EXAMPLES, RECIPE, folder).recall == 1.0
    return folder


def chat_logits(backend: Any, model: Model, folder: Path | None, prompts: list[Prompt]) -> list[Any]:
    found: list[Any] = backend.load(model, folder).log_probs(
        [model.tokenizer.encode_example(prompt, "one two three")[0] for prompt in prompts]
    )
    return found


@pytest.mark.parametrize("kind", ["gemma", "phi"])
def test_other_architectures_learn_their_examples(kind: str, backend: MlxBackend, tmp_path: Path) -> None:
    model = Model(kind, TINY_MODELS[kind](tmp_path / "model"), fingerprint=kind)

    record = backend.train(model, EXAMPLES, RECIPE, tmp_path)

    assert record.recall == 1.0
    assert texts(backend.load(model, tmp_path).complete(PROMPTS, LONG)) == ANSWERS


@pytest.mark.parametrize("options", [{}, {"layers": "0,1", "gate": "paper", "train_projection": "true"}])
def test_training_is_torchs(options: dict[str, Any], backend: MlxBackend, model: Model, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=4, stop_at_recall=False, options={**RECIPE.options, **options})
    losses = []
    for name, trainer in (("mlx", backend), ("torch", CpuBackend())):
        (tmp_path / name).mkdir()
        losses.append(trainer.train(model, EXAMPLES, recipe, tmp_path / name).losses)

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_one_memory_gives_torch_and_mlx_the_same_logits(backend: MlxBackend, model: Model, adapter: Path) -> None:
    sides = (chat_logits(each, model, adapter, [*PROMPTS, *UNKNOWN]) for each in (backend, CpuBackend()))

    for one, other in zip(*sides, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_cached_training_is_plain_training(backend: MlxBackend, model: Model, tmp_path: Path) -> None:
    from engram_bench.backends.mlx.memory_training import MlxMemoryEngine  # not before the backend preloads a BLAS

    recipe = replace(RECIPE, steps=4, stop_at_recall=False)
    losses = []
    for cached in (True, False):
        engine = MlxMemoryEngine(backend._open(model), model.context_length, packed=True, cached=cached)
        losses.append(train_memory(engine, model, EXAMPLES, recipe, tmp_path, progress=no_progress).log.losses)

    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.fixture(scope="module")
def alone(backend: MlxBackend, model: Model, adapter: Path) -> list[str]:
    """The answer to each prompt when nothing else is asked."""
    generator = backend.load(model, adapter)
    return [texts(generator.complete([prompt], LONG))[0] for prompt in (*PROMPTS, *UNKNOWN)]


@pytest.mark.parametrize(
    "plan",
    [{}, {"packing": False}, {"prefix_cache": False}, {"max_batch_tokens": 64}, {"drafts": False}, {"kernels": False}],
    ids=["as-usual", "padded", "no-prefix-cache", "small-batches", "no-drafts", "no-kernels"],
)
def test_answers_do_not_depend_on_how_they_are_computed(
    plan: dict[str, Any], alone: list[str], model: Model, adapter: Path
) -> None:
    drafts = [*ANSWERS, None, "a", "4"]

    assert alone[: len(ANSWERS)] == ANSWERS
    generator = MlxBackend(**plan).load(model, adapter)
    for given in (None, drafts):
        assert texts(generator.complete([*PROMPTS, *UNKNOWN], LONG, drafts=given)) == alone


def test_text_without_a_known_key_has_the_base_models_logits(backend: MlxBackend, model: Model, adapter: Path) -> None:
    pairs = zip(chat_logits(backend, model, adapter, UNKNOWN), chat_logits(backend, model, None, UNKNOWN), strict=True)

    assert all((one == other).all() for one, other in pairs)


def test_a_streamed_answer_is_the_whole_one(backend: MlxBackend, model: Model, adapter: Path) -> None:
    assert "".join(backend.load(model, adapter).stream(PROMPTS[3], LONG)) == ANSWERS[3]


def test_a_memory_and_a_lora_of_torch_answer_together(backend: MlxBackend, model: Model, tmp_path: Path) -> None:
    cpu = CpuBackend()
    recipe = replace(RECIPE, kind="both", steps=10, batch_size=4, learning_rate=1e-2)
    cpu.train(model, EXAMPLES, recipe, tmp_path)

    sides = (chat_logits(each, model, tmp_path, PROMPTS) for each in (backend, cpu))

    for one, other in zip(*sides, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_short_convolution_is_refused(backend: MlxBackend, model: Model, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="kernel is 4, expected 0"):
        backend.train(model, EXAMPLES, replace(RECIPE, options={**RECIPE.options, "kernel": 4}), tmp_path)
