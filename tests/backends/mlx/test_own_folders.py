"""Adapters that mlx-lm saved are what mlx-lm makes of them, which is the oracle of this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_bench.adapters.layout import LoraUpdate, write_peft
from engram_bench.adapters.store import load
from engram_bench.backends.registry import unavailable_reason
from engram_bench.errors import AdapterError
from engram_bench.models import Model
from engram_bench.records import GenerationSettings, Prompt, Recipe
from tests.tiny_models import make_tiny_llama

if unavailable_reason("mlx"):  # importing mlx to find out would be too early for its BLAS
    pytest.skip("mlx-lm is not installed", allow_module_level=True)

from engram_bench.backends.mlx import MlxBackend

KEYS = ["self_attn.q_proj", "mlp.down_proj"]
KINDS: dict[str, tuple[str, int, list[str] | None]] = {
    "lora": ("lora", 2, KEYS),
    "lora-last-block": ("lora", 1, KEYS),
    "lora-embedding": ("lora", 2, [*KEYS, "model.embed_tokens"]),
    "lora-everywhere": ("lora", 2, None),
    "dora": ("dora", 2, KEYS),
    "full": ("full", 2, None),
}
"""Name → kind of fine-tuning, number of blocks, and layers of a block; None takes every layer."""
PROMPTS = [Prompt(f"{number}?", "Be brief.") for number in range(10, 30)]
GREEDY = GenerationSettings(max_tokens=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny/llama", make_tiny_llama(tmp_path_factory.mktemp("llama")), fingerprint="llama")


@pytest.fixture(scope="module")
def backend() -> MlxBackend:
    return MlxBackend()


def save(folder: Path, model: Model, kind: str) -> Path:
    """A folder as mlx-lm's trainer leaves it, with values moved away from their start."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    folder.mkdir(exist_ok=True)
    tuning, num_layers, keys = KINDS[kind]
    module, _ = load_model(model.folder)
    parameters: dict[str, Any] = {"rank": 4, "scale": 3.0, "dropout": 0.0}
    if keys is not None:
        parameters["keys"] = keys
    if tuning != "full":
        module.freeze()
        linear_to_lora_layers(module, num_layers, parameters, use_dora=tuning == "dora")
    values = tree_flatten(module.trainable_parameters())
    keys_of_random = mx.random.split(mx.random.key(0), len(values))
    moved = {
        name: value + 0.05 * mx.random.normal(value.shape, key=key)
        for (name, value), key in zip(values, keys_of_random, strict=True)
    }
    mx.save_safetensors(str(folder / "adapters.safetensors"), moved)
    config = {"fine_tune_type": tuning, "num_layers": num_layers, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def oracle_of(folder: Path, model: Model) -> Any:
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    module, _ = load_model(model.folder)
    module = load_adapters(module, str(folder))
    module.eval()
    return module


def log_probs(oracle: Any, rows: Any) -> np.ndarray:
    import mlx.core as mx

    logits = oracle(mx.array(rows)).astype(mx.float32)
    return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


def texts(oracle: Any, model: Model) -> list[str]:
    tokenizer = model.tokenizer
    rows = tokenizer.encode_prompts(PROMPTS)
    start = len(rows[0])
    for _ in range(GREEDY.max_tokens):
        best = log_probs(oracle, rows)[:, -1].argmax(-1)
        rows = [[*row, int(token)] for row, token in zip(rows, best, strict=True)]
    answers = []
    for row in rows:
        stop = next((index for index, token in enumerate(row[start:]) if token in tokenizer.stop_ids), None)
        answers.append(tokenizer.decode(row[start:][:stop]))
    return answers


@pytest.mark.parametrize("kind", KINDS)
def test_folder_answers_as_in_mlx(kind: str, model: Model, backend: MlxBackend, tmp_path: Path) -> None:
    folder = load(save(tmp_path / "adapter", model, kind)).path
    oracle = oracle_of(folder, model)
    rows = model.tokenizer.encode_prompts(PROMPTS[:2])
    bare = backend.load(model, None).log_probs(rows)

    for fused in (False, True):
        generator = backend.load(model, folder, fused=fused)
        np.testing.assert_allclose(generator.log_probs(rows), log_probs(oracle, rows), atol=1e-4)
        assert [each.text for each in generator.complete(PROMPTS, GREEDY)] == texts(oracle, model)
    assert np.abs(np.array(generator.log_probs(rows)) - np.array(bare)).max() > 0.1
    np.testing.assert_array_equal(backend.load(model, None).log_probs(rows), bare)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_parameters": {"rank": 4, "alpha": 8, "dropout": 0.0}}, "mlx-lm cannot load this adapter .*'scale'"),
        ({"lora_parameters": {"rank": 8, "scale": 1.0, "dropout": 0.0, "keys": KEYS}}, "does not match"),
        ({"num_layers": 1}, "not an adapter parameter in the model"),
        ({"num_layers": "all"}, "mlx-lm cannot load this adapter"),
    ],
    ids=["scale", "rank", "layers", "type"],
)
def test_what_mlx_refuses_is_one_error(
    changes: dict[str, Any], message: str, model: Model, backend: MlxBackend, tmp_path: Path
) -> None:
    folder = save(tmp_path / "adapter", model, "lora")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    with pytest.raises(AdapterError, match=message) as caught:
        backend.load(model, folder)
    assert "\n" not in str(caught.value)


def test_adapter_that_only_peft_computes_names_the_backend(model: Model, backend: MlxBackend, tmp_path: Path) -> None:
    update = LoraUpdate(np.ones((2, 64), np.float32), np.ones((64, 2), np.float32), 2.0)
    write_peft(tmp_path, {"model.layers.0.self_attn.q_proj": update}, Recipe(rank=2, alpha=4.0), base="tiny")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))

    with pytest.raises(AdapterError, match=r"use_dora is True, .* expected backend cpu or cuda"):
        backend.load(model, tmp_path)
