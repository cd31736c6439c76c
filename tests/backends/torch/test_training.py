"""Training on the cpu backend: shortcuts are exact, results repeat, files are what others read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from engram_bench.adapters.layout import read_peft
from engram_bench.backends.common.packing import TokenBatch, pack, pad
from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.llama.network import LlamaNetwork
from engram_bench.backends.torch.lora import Lora, new_lora
from engram_bench.backends.torch.network import Network
from engram_bench.backends.torch.opening import open_network
from engram_bench.errors import AdapterError, BackendError
from engram_bench.models import Model
from engram_bench.records import Prompt, Recipe, TrainingExample
from tests.backends.contract import EXAMPLES, weights_of
from tests.tiny_models import TINY_MODELS

VOCABULARY = 60
RECIPE = Recipe(rank=4, alpha=8.0, steps=10, batch_size=4, learning_rate=1e-2, warmup_steps=2, stop_at_recall=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY_MODELS["llama"](tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model("tiny/llama", folder, fingerprint="llama")


def network_of(folder: Path, *, lean: bool) -> Network:
    return open_network(folder, device="cpu", dtype=torch.float32, lean=lean)


@pytest.fixture(scope="module")
def lean(folder: Path) -> Network:
    return network_of(folder, lean=True)


def random_lora(network: Network, targets: tuple[str, ...] = Recipe().targets) -> Lora:
    """An adapter whose B's are not zero, so that A's have gradients too."""
    lora = new_lora(network.shapes, replace(RECIPE, targets=targets), "cpu")
    random = torch.Generator().manual_seed(1)
    for b in lora.b.values():
        b.copy_(torch.randn(b.shape, generator=random) * 0.1)
    return lora


Example = tuple[list[int], int]


def rows_and_labels(batch: TokenBatch, examples: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    rows = [path[start - 1 :] for path, (_, start) in zip(batch.paths, examples, strict=True)]
    return np.concatenate(rows), np.concatenate([np.array(ids[start:]) for ids, start in examples])


def losses_and_gradient(
    network: Network, lora: Lora, examples: list[Example], *, packed: bool, products: str = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    inputs = [ids[:-1] for ids, _ in examples]
    batch = pack(inputs) if packed else pad(inputs, pad_id=0)
    rows, labels = rows_and_labels(batch, examples)
    gradient = lora.require_gradients()
    gradients = network.gradients(lora, getattr(torch, products))
    losses = gradients.loss_and_gradients(batch, rows, labels, 1 / len(labels))
    return losses, gradient.numpy().copy()


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@st.composite
def encoded_examples(draw: st.DrawFn) -> Example:
    ids = draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=3, max_size=12))
    return ids, draw(st.integers(1, len(ids) - 1))


PREFIX = [5, 6, 7, 8, 9]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tails=st.lists(encoded_examples(), min_size=1, max_size=5))
def test_a_pack_has_the_losses_and_gradients_of_a_padded_batch(lean: Network, tails: list[Example]) -> None:
    examples = [(PREFIX + ids, len(PREFIX) + start) for ids, start in tails]
    lora = random_lora(lean)

    packed_losses, packed_gradient = losses_and_gradient(lean, lora, examples, packed=True)
    padded_losses, padded_gradient = losses_and_gradient(lean, lora, examples, packed=False)

    np.testing.assert_allclose(packed_losses, padded_losses, rtol=1e-4, atol=1e-4)
    assert relative_difference(packed_gradient, padded_gradient) < 1e-4


LONG = [(PREFIX + list(range(start, start + 40)), 30) for start in range(0, 20, 4)]  # 200 tokens: several spans


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("targets", [Recipe().targets, ("v_proj", "down_proj"), ("k_proj",)], ids=["all", "two", "one"])
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_written_out_backward_pass_is_autograds(
    tmp_path: Path, kind: str, targets: tuple[str, ...], packed: bool
) -> None:
    folder = TINY_MODELS[kind](tmp_path)
    ours, theirs = network_of(folder, lean=True), network_of(folder, lean=False)
    assert isinstance(ours, LlamaNetwork)
    assert not isinstance(theirs, LlamaNetwork)
    assert ours.shapes == theirs.shapes

    losses, gradient = losses_and_gradient(ours, random_lora(ours, targets), LONG, packed=packed)
    expected_losses, expected = losses_and_gradient(theirs, random_lora(theirs, targets), LONG, packed=packed)

    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4, atol=1e-4)
    assert relative_difference(gradient, expected) < 1e-4


def test_a_long_pass_that_keeps_only_block_inputs_has_the_same_gradient(
    lean: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = random_lora(lean)
    _, expected = losses_and_gradient(lean, lora, LONG, packed=True)
    monkeypatch.setattr("engram_bench.backends.torch.llama.gradients.KEPT_TOKENS", 100)

    _, gradient = losses_and_gradient(lean, lora, LONG, packed=True)

    np.testing.assert_array_equal(gradient, expected)


def test_bfloat16_products_keep_the_direction_of_the_gradient(lean: Network) -> None:
    lora = random_lora(lean)

    _, coarse = losses_and_gradient(lean, lora, LONG, packed=True, products="bfloat16")
    _, exact = losses_and_gradient(lean, lora, LONG, packed=True)

    assert float(coarse @ exact / np.linalg.norm(coarse) / np.linalg.norm(exact)) > 0.999


@pytest.mark.parametrize("options", [{"packing": False}, {"lean": False}, {"max_batch_tokens": 60}], ids=str)
def test_every_shortcut_trains_the_same_adapter(model: Model, tmp_path: Path, options: dict[str, bool | int]) -> None:
    records = []
    cases: Mapping[str, Mapping[str, Any]] = {"plain": {}, "other": options}
    for name, settings_of in cases.items():
        (tmp_path / name).mkdir()
        backend = CpuBackend(products="float32", **settings_of)
        records.append(backend.train(model, EXAMPLES, RECIPE, tmp_path / name))

    np.testing.assert_allclose(records[1].losses, records[0].losses, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "recipe",
    [RECIPE, replace(RECIPE, layers="last 1", use_rslora=True), replace(RECIPE, targets=(r"/.*\.0\..*/",))],
    ids=["default", "last-block-rslora", "first-block-by-path"],
)
def test_peft_loads_the_adapter_and_computes_the_same_logits(model: Model, tmp_path: Path, recipe: Recipe) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    CpuBackend().train(model, EXAMPLES, recipe, tmp_path)
    ids = model.tokenizer.encode_prompt(EXAMPLES[0].prompt)

    base = transformers.AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()

    for lean in (True, False):
        ours = CpuBackend(lean=lean).load(model, tmp_path).log_probs([ids])[0]
        np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_every_b_learns_at_its_multiple_of_the_learning_rate(model: Model, tmp_path: Path) -> None:
    trained = {}
    for ratio in (1.0, 4.0):
        folder = tmp_path / str(ratio)
        folder.mkdir()
        CpuBackend().train(model, EXAMPLES, replace(RECIPE, steps=1, loraplus_lr_ratio=ratio), folder)
        trained[ratio] = read_peft(folder)

    for name, plain in trained[1.0].items():
        assert np.abs(plain.b).max() > 0
        np.testing.assert_array_equal(trained[4.0][name].a, plain.a)
        np.testing.assert_allclose(trained[4.0][name].b, 4 * plain.b, rtol=1e-5)


def test_training_stops_when_every_example_is_recalled(model: Model, tmp_path: Path) -> None:
    record = CpuBackend().train(model, EXAMPLES, replace(RECIPE, steps=200, stop_at_recall=True), tmp_path)

    assert record.recall == 1.0
    assert record.steps < 200


def test_every_prompt_as_written_is_recalled_whatever_share_is_enough(model: Model, tmp_path: Path) -> None:
    examples = [replace(example, pattern_id=f"p{number}") for number, example in enumerate(EXAMPLES)]
    recipe = replace(RECIPE, steps=200, stop_at_recall=True, min_recall=0.0)

    assert CpuBackend().train(model, examples, recipe, tmp_path).recall == 1.0


def test_an_adapter_that_does_not_fit_leaves_answers_as_fast_as_they_were(model: Model, tmp_path: Path) -> None:
    backend = CpuBackend()

    with pytest.raises(AdapterError):
        backend.train(model, EXAMPLES, replace(RECIPE, targets=("nothing_proj",)), tmp_path)

    network = backend._open(model)
    assert isinstance(network, LlamaNetwork)
    assert not getattr(network._multiply, "_spares", False)


def test_checkpoints_are_adapters_of_their_own(model: Model, tmp_path: Path) -> None:
    backend = CpuBackend()
    record = backend.train(model, EXAMPLES, replace(RECIPE, checkpoints=2), tmp_path)

    assert record.checkpoints == ("checkpoints/step-000005", "checkpoints/step-000010")
    assert weights_of(tmp_path / record.checkpoints[1]) == weights_of(tmp_path)
    assert weights_of(tmp_path / record.checkpoints[0]) != weights_of(tmp_path)
    backend.load(model, tmp_path / record.checkpoints[0]).close()


def test_a_loss_that_is_not_finite_names_the_step_and_the_learning_rate(model: Model, tmp_path: Path) -> None:
    wild = replace(RECIPE, learning_rate=1e30, warmup_steps=0)

    with pytest.raises(BackendError, match=r"step 2 has loss .* learning rate below 1e\+30"):
        CpuBackend().train(model, EXAMPLES, wild, tmp_path)
    assert not (tmp_path / "adapter_model.safetensors").exists()


def test_a_target_the_model_has_not_names_those_it_has(model: Model, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"targets c_attn.*q_proj, k_proj, v_proj"):
        CpuBackend().train(model, EXAMPLES, replace(RECIPE, targets=("c_attn",)), tmp_path)


def test_no_examples_are_an_error(model: Model, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no examples"):
        CpuBackend().train(model, [], RECIPE, tmp_path)


def test_an_unknown_kind_of_adapter_is_an_error(model: Model, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"kind is 'prompt', expected .*lora"):
        CpuBackend().train(model, EXAMPLES, replace(RECIPE, kind="prompt"), tmp_path)


def test_one_long_example_trains_beside_short_ones(model: Model, tmp_path: Path) -> None:
    long = TrainingExample(Prompt("word " * 80), "yes")

    record = CpuBackend(max_batch_tokens=100).train(model, [*EXAMPLES, long], RECIPE, tmp_path)

    assert record.steps == RECIPE.steps
    assert record.loss_end < record.loss_start
