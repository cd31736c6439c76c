"""The CPU kernels give what mlx gives, values and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_bench.backends.registry import unavailable_reason
from tests.tiny_models import TINY_MODELS

if unavailable_reason("mlx"):  # importing mlx to find out would be too early for its BLAS
    pytest.skip("mlx-lm is not installed", allow_module_level=True)

from engram_bench.backends.mlx import runtime

mx = runtime.start()

from engram_bench.backends.mlx import kernels  # noqa: E402  # after the start of mlx
from engram_bench.backends.mlx.network import open_network  # noqa: E402


def normal(*shape: Any, seed: Any = 0, scale: Any = 1.0) -> Any:
    return mx.array((np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32))


def test_exp_has_the_accuracy_of_float32() -> None:
    x = np.concatenate([np.linspace(-87, 88, 40_001), [0.0, -0.0, 1e-30, -1e-30]]).astype(np.float32)

    found = np.array(kernels.exp(mx.array(x)), np.float64)

    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=2e-7)


@pytest.mark.parametrize("x", [-88.0, -1e9, -np.inf], ids=str)
def test_exp_of_very_negative_numbers_is_next_to_nothing(x: Any) -> None:
    assert 0 <= kernels.exp(mx.array([x], dtype=mx.float32)).item() < 2e-38


def test_swiglu_is_that_of_mlx_lm_with_its_gradients() -> Any:
    from mlx_lm.models.activations import swiglu

    gate, x, weight = normal(3, 50, scale=6), normal(3, 50, seed=1), normal(3, 50, seed=2)

    def both(function: Any) -> Any:
        def loss(gate: Any, x: Any) -> Any:
            return (function(gate, x) * weight).sum()

        return [function(gate, x), *mx.grad(loss, argnums=(0, 1))(gate, x)]

    for ours, theirs in zip(both(kernels.swiglu), both(swiglu), strict=True):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-5, atol=1e-6)


def test_cross_entropy_is_that_of_mlx_with_its_gradient() -> None:
    from mlx import nn

    logits, labels = normal(5, 300, scale=4), mx.array([0, 299, 7, 7, 42])
    weights = mx.array([0.5, 1.0, 2.0, -1.0, 0.0])

    def both(function: Any) -> Any:
        return function(logits, labels), mx.grad(lambda z: (function(z, labels) * weights).sum())(logits)

    for ours, theirs in zip(both(kernels.cross_entropy), both(nn.losses.cross_entropy), strict=True):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "causal", "bool", "float"])
@pytest.mark.parametrize("num_queries", [1, 5])
def test_attention_is_that_of_mlx_with_its_gradients(kind: Any, num_queries: Any) -> Any:
    queries, keys, values = normal(2, 6, num_queries, 8), normal(2, 3, 9, 8, seed=1), normal(2, 3, 9, 8, seed=2)
    weight = normal(2, 6, num_queries, 8, seed=3)
    visible = mx.array(np.random.default_rng(4).random((2, 1, num_queries, 9)) < 0.7)
    visible[..., 0] = True
    mask = {"none": None, "causal": "causal", "bool": visible, "float": normal(2, 1, num_queries, 9, seed=5)}[kind]

    def both(function: Any) -> Any:
        def loss(q: Any, k: Any, v: Any) -> Any:
            return (function(q, k, v) * weight).sum()

        return [function(queries, keys, values), *mx.grad(loss, argnums=(0, 1, 2))(queries, keys, values)]

    ours = both(lambda q, k, v: kernels.scaled_dot_product_attention(q, k, v, None, 0.3, mask))
    theirs = both(lambda q, k, v: mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=mask))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.array(one), np.array(other), rtol=1e-4, atol=1e-5)


def test_a_query_that_sees_nothing_is_no_nan() -> None:
    hidden = mx.zeros((1, 1, 1, 9), dtype=mx.bool_)

    found = kernels.scaled_dot_product_attention(
        normal(1, 6, 1, 8), normal(1, 3, 9, 8), normal(1, 3, 9, 8), None, 1.0, hidden
    )

    assert np.isfinite(np.array(found)).all()


@pytest.mark.parametrize("name", TINY_MODELS)
def test_a_model_computes_the_same_with_the_kernels(name: Any, tmp_path: Path) -> None:
    network = open_network(TINY_MODELS[name](tmp_path), "float32")
    ids = mx.array(np.random.default_rng(0).integers(0, 250, (3, 17)))
    before = np.array(network.logits(network.hidden(ids, network.pass_caches())))

    assert kernels.install(network.module)

    after = np.array(network.logits(network.hidden(ids, network.pass_caches())))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    assert not np.array_equal(after, before)


def test_other_models_keep_the_functions_of_mlx_lm(tmp_path: Path) -> None:
    from mlx_lm.models import llama

    network = open_network(TINY_MODELS["llama"](tmp_path), "float32")

    kernels.install(network.module)

    assert llama.swiglu is not kernels.swiglu
    assert llama.MLP.__call__.__globals__["swiglu"] is llama.swiglu
    assert isinstance(network.module.layers[0].mlp, llama.MLP)
    assert type(network.module.layers[0].mlp) is not llama.MLP
