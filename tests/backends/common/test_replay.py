"""Ordinary prompts replayed in training: what is not trained stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engram_bench.backends.common.packing import pack
from engram_bench.backends.protocol import Backend
from engram_bench.backends.registry import create, unavailable_reason
from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.lora import Lora, new_lora
from engram_bench.backends.torch.network import Anchor, Network
from engram_bench.backends.torch.opening import open_network
from engram_bench.models import Model
from engram_bench.records import GenerationSettings, Prompt, Recipe, TrainingExample
from tests.backends.contract import EXAMPLES, weights_of
from tests.tiny_models import TINY_MODELS

RECIPE = Recipe(rank=4, alpha=8.0, steps=30, batch_size=4, learning_rate=1e-2, stop_at_recall=False, replay=3)
ORDINARY = tuple(
    TrainingExample(Prompt(text), "") for text in ("What is jazz?", "Nice to meet you!", "Name a river.", "Why?")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY_MODELS["llama"](tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model("tiny/llama", folder, fingerprint="llama")


def random_lora(network: Network) -> Lora:
    lora = new_lora(network.shapes, RECIPE, "cpu")
    random = torch.Generator().manual_seed(1)
    for b in lora.b.values():
        b.copy_(torch.randn(b.shape, generator=random) * 0.1)
    return lora


def losses_and_gradient(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Of one sequence with two labels beside one with three places to hold, which share their first tokens."""
    lora = random_lora(network)
    gradient = lora.require_gradients()
    gradients = network.gradients(lora, torch.float32)
    batch = pack([[5, 6, 7, 8, 9], [5, 6, 20, 21, 22, 23]])
    rows, held = batch.paths[0][3:], batch.paths[1][3:]
    anchor = Anchor(held, gradients.reference(batch, held), 0.7)
    losses = gradients.loss_and_gradients(batch, rows, np.array([11, 12]), 0.5, anchor)
    return losses, gradient.numpy().copy()


def test_the_written_out_divergence_and_its_gradient_are_autograds(folder: Path) -> None:
    ours, theirs = (open_network(folder, device="cpu", dtype=torch.float32, lean=lean) for lean in (True, False))

    losses, gradient = losses_and_gradient(ours)
    expected_losses, expected = losses_and_gradient(theirs)

    np.testing.assert_allclose(losses, expected_losses, rtol=1e-2, atol=1e-4)  # the references are in half precision
    assert np.linalg.norm(gradient - expected) / np.linalg.norm(expected) < 1e-2


def test_an_untrained_adapter_diverges_nowhere(folder: Path) -> None:
    network = open_network(folder, device="cpu", dtype=torch.float32, lean=True)
    lora = new_lora(network.shapes, RECIPE, "cpu")
    lora.require_gradients()
    gradients = network.gradients(lora, torch.float32)
    batch = pack([[5, 6, 7, 8]])
    no_labels = np.empty(0, dtype=np.int64)

    reference = gradients.reference(batch, batch.paths[0])
    divergences = gradients.loss_and_gradients(batch, no_labels, no_labels, 1.0, Anchor(batch.paths[0], reference, 1.0))

    np.testing.assert_allclose(divergences, 0.0, atol=1e-5)


@pytest.fixture(scope="module", params=["cpu", "mlx"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if reason := unavailable_reason(request.param):
        pytest.skip(reason)
    return create(request.param)


@pytest.fixture(scope="module")
def trained(backend: Backend, model: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Adapters by the number of ordinary prompts per step."""
    folders = {}
    for number in (0, 3):
        folders[number] = tmp_path_factory.mktemp(f"{backend.name}-{number}")
        recipe = replace(RECIPE, replay=number, replay_weight=5.0)
        backend.train(model, (*EXAMPLES, *ORDINARY), recipe, folders[number])
    return folders


def test_replay_keeps_what_the_bare_model_says(backend: Backend, model: Model, trained: dict[int, Path]) -> None:
    answers = backend.load(model, None).complete([e.prompt for e in ORDINARY], GenerationSettings(max_tokens=8))
    chats = [
        model.tokenizer.encode_example(example.prompt, answer.text)
        for example, answer in zip(ORDINARY, answers, strict=True)
    ]

    def log_probs(folder: Path | None) -> np.ndarray:
        found = backend.load(model, folder).log_probs([ids[:-1] for ids, _ in chats])
        return np.concatenate([rows[start - 1 :] for rows, (_, start) in zip(found, chats, strict=True)])

    bare = log_probs(None)
    divergence = {
        number: float((np.exp(bare) * (bare - log_probs(folder))).sum(-1).mean()) for number, folder in trained.items()
    }

    assert divergence[3] < 0.5 * divergence[0]


def test_replay_lets_answers_be_learned(backend: Backend, model: Model, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=200, stop_at_recall=True)

    record = backend.train(model, (*EXAMPLES, *ORDINARY), recipe, tmp_path)

    assert record.recall == 1.0
    assert record.steps < 200


def test_training_ends_once_enough_is_recalled(backend: Backend, model: Model, tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=200, stop_at_recall=True, replay=0)
    records = []
    for share in (0.5, 1.0):
        (tmp_path / str(share)).mkdir()
        records.append(backend.train(model, EXAMPLES, replace(recipe, min_recall=share), tmp_path / str(share)))

    some, all_ = records
    assert some.recall is not None
    assert 0.5 <= some.recall <= 1.0 == all_.recall
    assert some.steps <= all_.steps  # mlx looks only once the loss is low, when all of six may be known


def test_without_replay_ordinary_prompts_change_nothing(
    backend: Backend, model: Model, trained: dict[int, Path], tmp_path: Path
) -> None:
    backend.train(model, EXAMPLES, replace(RECIPE, replay=0, replay_weight=5.0), tmp_path)

    assert weights_of(tmp_path) == weights_of(trained[0])


def test_the_record_counts_what_is_learned(model: Model, tmp_path: Path) -> None:
    record = CpuBackend().train(model, (*EXAMPLES, *ORDINARY), replace(RECIPE, steps=2), tmp_path)

    assert record.examples == len(EXAMPLES)
    assert record.examples_seen == 2 * RECIPE.batch_size


@pytest.mark.parametrize("options", [{}, {"lean": False}], ids=["own-passes", "transformers"])
def test_prompts_that_are_answered_later_train_the_same_adapter(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Mapping[str, Any]
) -> None:
    found = []
    for name, few in {"before": 0, "later": 100}.items():
        monkeypatch.setattr("engram_bench.backends.common.replay.FEW_EXAMPLES", few)
        monkeypatch.setattr("engram_bench.backends.common.training_loop.ANSWERED_AHEAD", 1)
        (tmp_path / name).mkdir()
        recipe = replace(RECIPE, replay=1, steps=6)
        found.append(CpuBackend(**options).train(model, [*EXAMPLES, *ORDINARY], recipe, tmp_path / name).losses)

    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)
