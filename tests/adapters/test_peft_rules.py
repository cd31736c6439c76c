"""What a configuration of PEFT means, without PEFT; ``tests/backends/torch/test_peft_kinds.py`` asks PEFT itself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engram_bench.adapters import expressions
from engram_bench.adapters.peft_rules import applied, beyond_plain, check_patterns
from engram_bench.errors import AdapterError

Q, V, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj", "model.layers.11.mlp.down_proj"
NAMES = (Q, V, DOWN)
PATH = Path("adapter_config.json")
PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
TENSORS = {f"base_model.model.{Q}.lora_{half}.weight": (4, 4) for half in "AB"}


@pytest.mark.parametrize(
    ("key", "scale"),
    [
        (r".*\.layers\.0\..*(q_proj|v_proj)$", 16.0),
        (r"layers\.[0-1]\.self_attn\.q_proj", 16.0),
        ("(q|k)_proj", 16.0),
        ("layers.0.self_attn.q_proj", 16.0),
        ("q_proj", 16.0),
        ("proj", 2.0),
        ("self_attn", 2.0),
        ("0.self_attn.q_proj", 16.0),
        ("layers.0.self_attn.q_pro", 2.0),
    ],
)
def test_pattern_is_a_regular_expression_for_an_end_of_the_path(key: str, scale: float) -> None:
    found = applied(PATH, PLAIN | {"alpha_pattern": {key: 64}}, NAMES)

    assert found[Q].scale == scale
    assert found[DOWN].scale == 2.0


def test_first_pattern_that_matches_counts() -> None:
    found = applied(
        PATH, PLAIN | {"alpha_pattern": {r".*_proj": 4, "q_proj": 64}, "rank_pattern": {"v_proj": 2}}, NAMES
    )

    assert {name: (layer.rank, layer.scale) for name, layer in found.items()} == {
        Q: (4, 1.0),
        V: (2, 2.0),
        DOWN: (4, 1.0),
    }


def test_rank_stabilised_scale_takes_the_rank_of_the_layer() -> None:
    found = applied(PATH, PLAIN | {"use_rslora": True, "rank_pattern": {"q_proj": 16}}, NAMES)

    assert (found[Q].scale, found[V].scale) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("changes", "adapted"),
    [
        ({"target_modules": ["q_proj"]}, {Q}),
        ({"target_modules": ["_proj"]}, set()),
        ({"target_modules": [V, "mlp.down_proj"]}, {V, DOWN}),
        ({"target_modules": r".*\.self_attn\.(q|v)_proj"}, {Q, V}),
        ({"target_modules": r"layers\.0\..*"}, set()),
        ({"target_modules": r"(?i).*Q_PROJ"}, {Q}),
        ({"target_modules": "all-linear"}, {Q, V, DOWN}),
        ({"exclude_modules": ["v_proj"]}, {Q, DOWN}),
        ({"exclude_modules": r".*\.self_attn\..*"}, {DOWN}),
        ({"layers_to_transform": 1}, {V}),
        ({"layers_to_transform": [0, 11]}, {Q, DOWN}),
        ({"layers_to_transform": [0, 11], "layers_pattern": "layers"}, {Q, DOWN}),
        ({"layers_to_transform": [0], "layers_pattern": ["h"]}, set()),
        ({"layers_to_transform": []}, {Q, V, DOWN}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_only_the_layers_that_peft_adapts_count(changes: dict[str, Any], adapted: set[str]) -> None:
    assert set(applied(PATH, PLAIN | changes, NAMES)) == adapted


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.1, "revision": None, "peft_version": "0.99"},
        {"use_rslora": True, "megatron_core": "megatron.core", "loftq_config": {}, "qalora_group_size": 16},
        {"a_key_of_2030": None},
        {"auto_mapping": {"base_model_class": "LlamaForCausalLM", "unsloth_fixed": True}},
    ],
    ids=["least", "training", "defaults", "unset", "unsloth"],
)
def test_known_good_settings_are_plain(extra: dict[str, Any]) -> None:
    assert beyond_plain(PLAIN | extra, TENSORS) == ""


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens is [1, 2]"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication is [[0, 1], [0, 1]]"),
        ({"kasa_config": {}}, "kasa_config is {}"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is ['lm_head']"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices is [3]"),
        ({"a_key_of_2030": {"x": 1}}, "a_key_of_2030 is {'x': 1}"),
        ({"a_switch_of_2030": False}, "a_switch_of_2030 is False"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"init_weights": True, "peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'"),
        ({"target_modules": None}, "target_modules is not set"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_whatever_is_not_known_to_be_plain_is_named(extra: dict[str, Any], reason: str) -> None:
    assert beyond_plain({**extra, **PLAIN, **extra}, TENSORS) == reason


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (f"base_model.model.{Q}.lora_magnitude_vector", "it has a tensor"),
        (f"base_model.model.{Q}.lora_B.bias", "it has a tensor"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", "it has a tensor"),
        ("base_model.model.lm_head.lora_A.weight", "it adapts lm_head, outside the blocks"),
    ],
    ids=["magnitude", "bias", "embedding", "head"],
)
def test_tensors_beyond_a_and_b_are_named(tensor: str, reason: str) -> None:
    assert beyond_plain(PLAIN, TENSORS | {tensor: (4, 4)}).startswith(reason)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 0}, "r is 0, expected a positive number"),
        ({"r": True}, "r is True, expected a positive number"),
        ({"lora_alpha": "16"}, "lora_alpha is '16', expected a positive number"),
        (
            {"alpha_pattern": {"q_proj": "64"}},
            "alpha_pattern is {'q_proj': '64'}, expected patterns with positive numbers",
        ),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern is ['q_proj'], expected patterns with positive numbers"),
        ({"target_modules": [1]}, "target_modules is [1], expected a text or a list of texts"),
        ({"layers_to_transform": "0"}, "layers_to_transform is '0', expected a block's index or a list of them"),
        ({"alpha_pattern": {"q_proj(": 1}}, "alpha_pattern has 'q_proj(', expected a regular expression"),
        ({"target_modules": "*"}, "target_modules has '*', expected a regular expression"),
        ({"rank_pattern": dict.fromkeys(map(str, range(3000)), 4)}, "rank_pattern has 3000 patterns, expected at most"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_values_of_other_types_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=re.escape(message)):
        applied(PATH, PLAIN | changes, NAMES)


@pytest.mark.parametrize("read", [applied, check_patterns], ids=["plain", "beyond"])
def test_hostile_pattern_ends_in_time(read: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "SECONDS", 0.3)
    started = time.monotonic()

    with pytest.raises(AdapterError, match="alpha_pattern takes over 0 s to match"):
        read(PATH, PLAIN | {"alpha_pattern": {r"([a-z._0-9]+)+!": 1}}, ["a" * 60])
    assert time.monotonic() - started < 5


def test_usual_patterns_pass_the_check() -> None:
    config = {
        "peft_type": "LOHA",
        "target_modules": r".*\.(q|v)_proj",
        "modules_to_save": ["lm_head", "*"],
        "rank_pattern": {},
    }

    check_patterns(PATH, config, NAMES)
