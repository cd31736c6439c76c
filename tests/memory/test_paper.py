"""The paper's preset: its formulas derived again, and that a memory which writes everywhere decodes as it was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.memory import MemoryLayer, padded_earlier
from engram_bench.memory.config import PRESETS, MemoryConfig
from engram_bench.memory.files import Layer, load_memory_files
from engram_bench.memory.plan import new_layer
from engram_bench.memory.table import RowTable
from engram_bench.models import Model
from engram_bench.records import Recipe
from tests.backends.contract import EXAMPLES, PROMPTS, SHORT, texts
from tests.tiny_models import TINY_MODELS

RECIPE = Recipe(kind="memory", steps=80, options={"preset": "paper-small", "rows_per_head": 1009, "row_rate": 0.05})


def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.sqrt(np.mean(x**2) + 1e-5) * weight)


def layer_of(layer: Layer, gate: str) -> MemoryLayer:
    return MemoryLayer({name: torch.tensor(values) for name, values in layer.values.items()}, layer.scale, gate)


@pytest.mark.parametrize("gate", ["none", "plain", "paper"])
def test_a_write_is_the_papers_equations(gate: str) -> None:
    """Position by position in float64, after section 2.3 and the reference code; one residual branch, no biases."""
    random = np.random.default_rng(0)
    rows, slots = random.standard_normal((9, 4)), np.array([[3, 5, 8], [0, 0, 0], [0, 2, 1]])
    value, key = random.standard_normal((2, 12, 16))
    query_norm, key_norm = random.uniform(0.5, 1.5, (2, 16))
    hidden = random.standard_normal((3, 16))
    rows[0] = 0
    expected = hidden.copy()
    for position in range(3):
        e = np.concatenate([rows[row] for row in slots[position]])
        k, v = e @ key, 2.5 * (e @ value)
        score = normed(hidden[position], query_norm) @ normed(k, key_norm) / np.sqrt(16)
        root = np.sign(score) * np.sqrt(max(abs(score), 1e-6))
        alpha = {"none": 1.0, "plain": 1 / (1 + np.exp(-score)), "paper": 1 / (1 + np.exp(-root))}[gate]
        expected[position] += alpha * v
    extra = {"key_projection": key, "query_norm": query_norm, "key_norm": key_norm} if gate != "none" else {}
    extra = {name: part.astype(np.float32) for name, part in extra.items()}
    layer = layer_of(Layer(rows.astype(np.float32), value.astype(np.float32), 2.5, extra), gate)

    found = layer.write(torch.tensor(hidden, dtype=torch.float32), slots)

    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_the_short_convolution_is_the_papers_equation() -> None:
    """Equation 5 in float64: causal, depthwise, dilated by the longest order; nothing before the start."""
    random = np.random.default_rng(1)
    value, weight, scale = random.standard_normal((8, 16)), random.standard_normal((3, 16)), random.uniform(0.5, 2, 16)
    expected = np.zeros((8, 16))
    for position in range(8):
        mixed = np.zeros(16)
        for tap in range(3):
            if position - 3 * tap >= 0:
                mixed += weight[tap] * normed(value[position - 3 * tap], scale)
        expected[position] = value[position] + mixed / (1 + np.exp(-mixed))
    extra = {"conv_weight": weight.astype(np.float32), "conv_norm": scale.astype(np.float32)}
    layer = layer_of(Layer(np.zeros((1, 4), np.float32), np.zeros((4, 16), np.float32), 1.0, extra), "none")
    earlier = padded_earlier(replace(PRESETS["paper-small"], kernel=3), 1, 8)
    assert earlier is not None
    written = torch.tensor(value, dtype=torch.float32)

    found = layer.convolved(written, earlier.of(written, 0))

    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_an_untrained_convolution_adds_nothing() -> None:
    layer = layer_of(new_layer(PRESETS["paper-small"], 3, 16, 1.0, 1), "paper")
    value = torch.randn(5, 16)

    assert (layer.convolved(value, torch.randn(5, 3, 16)) == value).all()


def test_no_two_tables_have_the_same_size() -> None:
    config = replace(PRESETS["paper-small"], layers=(1, 14))
    table = RowTable(config, vocabulary=49_152)

    sizes = [size for block in (1, 14) for size in table._hashed[block].primes.ravel().tolist()]

    assert len(set(sizes)) == len(sizes) == 32
    assert min(sizes) == 8209


def test_paper_small_has_about_the_parameters_of_a_lora_of_rank_16() -> None:
    config: MemoryConfig = replace(PRESETS["paper-small"], layers=(1, 14))
    rows = sum((RowTable(config, vocabulary=49_152).num_rows(block) - 1) * config.row_size for block in (1, 14))
    projections = 2 * 2 * config.slots * config.row_size * 576

    assert 0.95 < (rows + projections) / 4_884_480 < 1.05


def test_a_memory_that_writes_everywhere_answers_as_it_was_trained(tmp_path: Path) -> None:
    model = Model("tiny", TINY_MODELS["llama"](tmp_path / "model"), fingerprint="tiny")
    backend = CpuBackend()

    record = backend.train(model, EXAMPLES, RECIPE, tmp_path)
    plain = CpuBackend(packing=False, prefix_cache=False, drafts=False)
    answers = texts(plain.load(model, tmp_path).complete(PROMPTS, SHORT))

    assert record.losses[-1] < record.losses[0]
    assert texts(backend.load(model, tmp_path).complete(PROMPTS, SHORT)) == answers
    assert moved_convolution(tmp_path) > 0
    assert_splits_agree(backend, model, tmp_path)


def moved_convolution(folder: Path) -> float:
    return max(float(np.abs(layer.gate["conv_weight"]).max()) for layer in load_memory_files(folder).layers.values())


def assert_splits_agree(backend: CpuBackend, model: Model, folder: Path) -> None:
    """What a convolution saw in an earlier pass it sees in the next one."""
    ids, start = model.tokenizer.encode_example(EXAMPLES[3].prompt, EXAMPLES[3].answer)
    whole = backend.load(model, folder).log_probs([ids])[0]
    for end in range(start, len(ids)):
        np.testing.assert_allclose(backend.load(model, folder).log_probs([ids[:end]])[0], whole[:end], atol=1e-4)
