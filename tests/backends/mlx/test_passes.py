"""Sequences laid out for one pass, and taken apart again."""

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

from engram_bench.backends.mlx.network import open_network  # noqa: E402  # after the start of mlx
from engram_bench.backends.mlx.packed import Layout  # noqa: E402
from engram_bench.backends.mlx.passes import group, hidden_states, plan_pass  # noqa: E402

SEQUENCES = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 1, 2, 3]]


def test_a_packed_row_holds_the_shared_part_once_and_no_filler() -> None:
    plan = plan_pass(SEQUENCES, packed=True, pad_id=0, shared=2)

    assert plan.ids.tolist() == [[5, 6, 7, 8, 9, 7, 1, 2, 3]]
    assert plan.layout is not None
    assert plan.layout.positions.tolist() == [0, 1, 2, 3, 2, 2, 3, 4, 5]
    assert [path.tolist() for path in plan.paths] == [[2, 3], [4], [5, 6, 7, 8]]
    assert plan.num_tokens == 9


def test_a_padded_pass_has_a_row_each_and_the_shared_part_apart() -> None:
    plan = plan_pass(SEQUENCES, packed=False, pad_id=0, shared=2)

    assert plan.lead.tolist() == [[5, 6]]
    assert plan.ids.tolist() == [[7, 8, 0, 0], [9, 0, 0, 0], [7, 1, 2, 3]]
    assert [path.tolist() for path in plan.paths] == [[0, 1], [4], [8, 9, 10, 11]]
    assert plan.num_tokens == 14


def test_positions_go_on_behind_what_is_cached() -> None:
    plan = plan_pass([[7, 8], [9]], packed=True, pad_id=0, past=10)

    assert plan.layout is not None
    assert plan.layout.positions.tolist() == [10, 11, 10]


def test_a_row_taken_apart_and_put_together_is_the_row_with_its_gradient() -> None:
    layout = Layout([2, 1, 4], lead=0, past=0)
    packed = mx.array(np.random.default_rng(0).standard_normal((1, 3, 7, 5)).astype(np.float32))
    weight = mx.array(np.random.default_rng(1).standard_normal((1, 3, 7, 5)).astype(np.float32))

    rows = layout.apart(packed)

    assert rows.shape == (3, 3, 4, 5)
    np.testing.assert_array_equal(np.array(rows[2, :, 1]), np.array(packed[0, :, 4]))
    np.testing.assert_array_equal(np.array(layout.together(rows)), np.array(packed))
    gradient = mx.grad(lambda x: (layout.together(layout.apart(x)) * weight).sum())(packed)
    np.testing.assert_array_equal(np.array(gradient), np.array(weight))


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize("shared", [0, 2], ids=["nothing-shared", "shared"])
def test_packed_hidden_states_are_those_of_each_sequence_alone(name: Any, shared: Any, tmp_path: Path) -> None:
    network = open_network(TINY_MODELS[name](tmp_path), "float32", fast=True)
    assert network.packs
    plan = plan_pass(SEQUENCES, packed=True, pad_id=0, shared=shared)

    flat, _ = hidden_states(network, plan)

    for sequence, path in zip(SEQUENCES, plan.paths, strict=True):
        alone = np.array(network.hidden(mx.array([sequence]), network.pass_caches()))[0]
        np.testing.assert_allclose(np.array(flat)[path], alone[shared:], atol=2e-5)


def test_a_model_with_a_sliding_window_is_read_in_padded_rows(tmp_path: Path) -> None:
    """A packed row has no columns a window could be counted in."""
    import json

    folder = TINY_MODELS["llama"](tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
    (folder / "config.json").write_text(json.dumps(config))

    assert not open_network(folder, "float32", fast=True).packs


@pytest.mark.parametrize(
    ("packed", "groups"),
    [(True, [[1, 3, 0], [2]]), (False, [[1, 3], [0], [2]])],
    ids=["packed-counts-tokens", "padded-counts-filler"],
)
def test_groups_hold_neighbours_in_length(packed: Any, groups: Any) -> None:
    assert group([4, 2, 6, 3], max_tokens=10, packed=packed) == groups


def test_a_sequence_beyond_the_bound_is_a_group_of_its_own() -> None:
    assert group([50, 3], max_tokens=10, packed=True) == [[1], [0]]


def test_no_sequences_make_no_groups() -> None:
    assert group([], max_tokens=10, packed=True) == []
