"""Every kind of adapter that PEFT can save means here what it means in PEFT, which is the oracle of this file."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import peft
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, VeloraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from transformers import AutoModelForCausalLM

from engram_bench.adapters.found import needs_peft, remark
from engram_bench.adapters.peft_rules import applied
from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.peft_generator import PeftGenerator
from engram_bench.errors import AdapterError
from engram_bench.models import Model
from engram_bench.records import GenerationSettings, Prompt
from tests.tiny_models import make_tiny_llama

pytestmark = pytest.mark.xdist_group("peft")

TARGETS = ["q_proj", "v_proj", "down_proj"]
LORA: Mapping[str, Mapping[str, Any]] = {
    "lora": {},
    "lora-rslora": {"use_rslora": True},
    "lora-gaussian": {"init_lora_weights": "gaussian"},
    "lora-orthogonal": {"init_lora_weights": "orthogonal"},
    "lora-eva": {"init_lora_weights": "eva"},
    "lora-patterns": {"rank_pattern": {"(q|k)_proj": 4}, "alpha_pattern": {r".*\.layers\.0\..*(q_proj|v_proj)$": 64}},
    "lora-layers": {"layers_to_transform": [1]},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa-niter": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "mica": {"init_lora_weights": "mica"},
    "lora-ga": {"init_lora_weights": "lora_ga"},
    "alora": {"alora_invocation_tokens": [1, 77]},
    "lora-bias": {"lora_bias": True},
    "bias-all": {"bias": "all"},
    "saved-head": {"modules_to_save": ["lm_head"]},
    "saved-embedding": {"modules_to_save": ["embed_tokens"]},
    "lora-tokens": {"trainable_token_indices": [5, 9, 20]},
    "replication": {"layer_replication": [[0, 2], [0, 2]]},
    "lora-embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "lora-head": {"target_modules": ["lm_head", "q_proj"]},
    "parameters": {"target_modules": ["q_proj"], "target_parameters": ["mlp.gate_proj.weight"]},
    "qalora": {"use_qalora": True},
    "kasa": {"kasa_config": KasaConfig()},
    "velora": {"velora_config": VeloraConfig()},
    "bdlora": {"use_bdlora": BdLoraConfig(target_modules_bd_a=TARGETS, nblocks=2)},
}
"""Settings of LoRA by the name of a variant."""
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "ADALORA": {"target_modules": TARGETS, "total_step": 10, "tinit": 1, "tfinal": 1},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "BOFT": {"target_modules": TARGETS, "boft_block_size": 4},
    "C3A": {"target_modules": TARGETS, "block_size": 16},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "CPT": {"cpt_token_ids": [5, 6, 7, 8]},
    "IA3": {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "OFT": {"target_modules": TARGETS, "oft_block_size": 4, "r": 0},
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "P_TUNING": {"num_virtual_tokens": 4, "encoder_hidden_size": 16},
    "ROAD": {"target_modules": TARGETS, "group_size": 16},
    "SHIRA": {"target_modules": TARGETS, "r": 4},
    "TRAINABLE_TOKENS": {"token_indices": [5, 9, 20], "target_modules": ["embed_tokens"]},
    "VBLORA": {"target_modules": TARGETS, "vector_length": 16, "num_vectors": 8},
    "WAVEFT": {"target_modules": TARGETS, "n_frequency": 100},
}
"""Settings by kind of PEFT; the other kinds need target modules alone."""
REFUSED = {
    "ADAMSS": "scikit-learn",  # its library is not there
    "MULTITASK_PROMPT_TUNING": "task_ids cannot be None",
    "POLY": "task_ids should not be None",
    "SHADOW": "shadow_model",
    "XLORA": "adapters",
}
"""Kinds that PEFT itself cannot ask plain prompts, or that read other files."""
PLAIN = {name for name in LORA if name == "lora" or name.startswith("lora-")} - {
    "lora-ga",
    "lora-bias",
    "lora-tokens",
    "lora-embedding",
    "lora-head",
}
UNMERGED = {
    "alora": "aLoRA does not support merging",
    "lora-bias": "the base layer has no bias",
    "replication": "log-probabilities change",  # replicated layers share the weights that PEFT adds to
    "lora-embedding": "log-probabilities change",  # the head is tied to the embedding
    "lora-head": "log-probabilities change",
    "BEFT": "has no bias",
    "LILY": "not supported for Lily",
} | dict.fromkeys(
    ["ADAPTION_PROMPT", "CARTRIDGE", "CPT", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"],
    "it stands beside the weights",
)
"""Kinds that PEFT cannot merge, or not without changing answers."""
KINDS = [*LORA, *sorted({kind.value for kind in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING} - {"LORA", *REFUSED})]
PROMPTS = [Prompt(f"What is {number}?") for number in range(10, 30)]
"""Twenty prompts of one length in tokens, so that the oracle answers them in one batch."""
GREEDY = GenerationSettings(max_tokens=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny/llama", make_tiny_llama(tmp_path_factory.mktemp("llama")), fingerprint="llama")


@pytest.fixture(scope="module")
def base(model: Model) -> Any:
    return AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture(scope="module")
def ids(model: Model) -> torch.Tensor:
    return torch.tensor(model.tokenizer.encode_prompts(PROMPTS))


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(folder: Path, base: Any, kind: str, **changes: Any) -> Path:
    """A folder with an adapter of this kind as PEFT saves it, its trained values moved away from their start."""
    torch.manual_seed(1)
    if kind in LORA:
        config = peft.LoraConfig(**{"target_modules": TARGETS, "task_type": "CAUSAL_LM"} | LORA[kind] | changes)
    else:
        settings = OTHERS.get(kind, {"target_modules": TARGETS})
        made = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[kind]  # type: ignore[index]
        config = made(**{"task_type": "CAUSAL_LM"} | settings | changes)
    wrapped = get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for _, values in sorted(wrapped.named_parameters()):
            if values.requires_grad:
                values.add_(torch.randn_like(values) * 0.05)
    wrapped.save_pretrained(folder)
    return folder


def oracle_of(folder: Path, base: Any) -> Any:
    torch.manual_seed(0)
    return PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()


def log_probs(oracle: Any, ids: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits = oracle(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits[:, -ids.shape[1] :].log_softmax(-1).numpy()


def texts(oracle: Any, ids: torch.Tensor, model: Model) -> list[str]:
    """PEFT's own greedy answers, cut at the stop tokens."""
    tokenizer = model.tokenizer
    found = oracle.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=GREEDY.max_tokens,
        eos_token_id=sorted(tokenizer.stop_ids),
        pad_token_id=tokenizer.pad_id,
    )
    answers = []
    for row in found[:, -GREEDY.max_tokens :].tolist() if found.shape[1] >= ids.shape[1] else found.tolist():
        stop = next((index for index, token in enumerate(row) if token in tokenizer.stop_ids), len(row))
        answers.append(tokenizer.decode(row[:stop]))
    return answers


@pytest.mark.parametrize("kind", KINDS)
def test_kind_answers_as_in_peft(
    kind: str, base: Any, model: Model, backend: CpuBackend, ids: torch.Tensor, tmp_path: Path
) -> None:
    """Log-probabilities within 1e-4 and the same greedy text for 20 prompts, attached and fused."""
    folder = save(tmp_path, base, kind)
    oracle = oracle_of(folder, base)
    alone = kind == "LILY"  # its router takes the mean of a batch
    parts = [ids[row : row + 1] for row in range(20)] if alone else [ids]
    expected = [text for part in parts for text in texts(oracle, part, model)]
    wanted = np.concatenate([log_probs(oracle, part) for part in parts[:2] if alone or True])[:2]

    attached = backend.load(model, folder)

    assert isinstance(attached, PeftGenerator) == (kind not in PLAIN)
    assert bool(remark(folder)) == (kind not in PLAIN)
    np.testing.assert_allclose(attached.log_probs(ids[:2].tolist()), wanted, atol=1e-4)
    assert [each.text for each in attached.complete(PROMPTS, GREEDY)] == expected
    if kind in UNMERGED:
        with pytest.raises(AdapterError, match=UNMERGED[kind]):
            backend.load(model, folder, fused=True)
        return
    fused = backend.load(model, folder, fused=True)
    np.testing.assert_allclose(fused.log_probs(ids[:2].tolist()), wanted, atol=1e-4)
    assert [each.text for each in fused.complete(PROMPTS, GREEDY)] == expected
