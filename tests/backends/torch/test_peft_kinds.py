"""Every kind of adapter that PEFT can save means here what it means in PEFT, which is the oracle of this file."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engram_bench.adapters import expressions
from engram_bench.adapters.found import remark
from engram_bench.adapters.layout import read_peft, write_mlx
from engram_bench.adapters.peft_rules import applied
from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.peft_generator import PeftGenerator
from engram_bench.errors import AdapterError
from engram_bench.models import Model
from engram_bench.records import GenerationSettings, Prompt
from tests.tiny_models import make_tiny_llama

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
    "kasa": {"kasa_config": {}},
    "velora": {"velora_config": {}},
    "bdlora": {"use_bdlora": {"target_modules_bd_a": TARGETS, "nblocks": 2}},
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
"""Settings by kind of PEFT."""
REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "MULTITASK_PROMPT_TUNING": ({"num_virtual_tokens": 4, "num_tasks": 2}, "task_ids cannot be None"),
    "POLY": ({"target_modules": TARGETS}, "task_ids should not be None"),
    "SHADOW": ({}, "shadow_model is 'mirror' and has PEFT read another model"),
    "XLORA": ({}, "adapters is .* and has PEFT read other adapters"),
}
"""Kinds that PEFT cannot ask plain prompts, or for which it reads other files."""
UNTRIED = ("ADAMSS",)
"""Kinds that need a library beside PEFT."""
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
ALONE = [
    *("BEFT", "DEFT", "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA", "HRA", "LILY", "LOHA", "LOKR", "MISS"),
    *("OSF", "PEANUT", "PSOFT", "PVERA", "RANDLORA", "SUPERTUNING", "TINYLORA", "UNILORA", "VERA"),
]
"""Kinds that need target modules alone."""
KINDS = [*LORA, *sorted([*OTHERS, *ALONE])]
OFTEN_USED = ("lora", "dora", "lora-rslora", "saved-embedding", "pissa", "LOHA", "IA3", "PREFIX_TUNING")
"""Kinds that every run of the tests looks at; the others take a minute."""
PROMPTS = [Prompt(f"{number}?", "Be brief.") for number in range(10, 30)]
"""Twenty prompts of one length in tokens, so that the oracle answers them in one batch."""
GREEDY = GenerationSettings(max_tokens=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model("tiny/llama", make_tiny_llama(tmp_path_factory.mktemp("llama")), fingerprint="llama")


@pytest.fixture(scope="module")
def base(model: Model) -> Any:
    """The bare model of transformers. PEFT is imported here, so that only the worker that runs these tests pays for it."""
    pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32)
    return loaded.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def backend() -> CpuBackend:
    return CpuBackend()


@pytest.fixture(scope="module")
def ids(model: Model) -> torch.Tensor:
    return torch.tensor(model.tokenizer.encode_prompts(PROMPTS))


@pytest.fixture(autouse=True)
def _quick(base: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """No warnings, no model cards, and base weights from memory, which saves half of the time."""
    monkeypatch.setattr("peft.PeftModel.create_or_update_model_card", lambda *_: None)
    monkeypatch.setattr("engram_bench.backends.torch.backend.load_transformers", lambda *_: copy.deepcopy(base))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(folder: Path, base: Any, kind: str) -> Path:
    """A folder with an adapter of this kind as PEFT saves it, its trained values moved away from their start."""
    import peft

    torch.manual_seed(1)
    made: Any
    if kind in LORA:
        made, settings = peft.LoraConfig, {"target_modules": TARGETS, **LORA[kind]}
    else:
        refused = {name: settings for name, (settings, _) in REFUSED.items()}
        made = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)]
        settings = dict({**OTHERS, **refused}.get(kind, {"target_modules": TARGETS}))
    config = made(task_type="CAUSAL_LM", **settings)
    wrapped = peft.get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for _, values in sorted(wrapped.named_parameters()):
            if values.requires_grad:
                values.add_(torch.randn_like(values) * 0.05)
    wrapped.save_pretrained(str(folder))
    return folder


def oracle_of(folder: Path, base: Any) -> Any:
    import peft

    torch.manual_seed(0)
    return peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()


def log_probs(oracle: Any, ids: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits = oracle(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    found: np.ndarray = logits[:, -ids.shape[1] :].log_softmax(-1).numpy()
    return found


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


@pytest.mark.parametrize(
    "kind", [kind if kind in OFTEN_USED else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_kind_answers_as_in_peft(
    kind: str, base: Any, model: Model, backend: CpuBackend, ids: torch.Tensor, tmp_path: Path
) -> None:
    """Log-probabilities within 1e-4 and the same greedy text for 20 prompts, attached and fused."""
    folder = save(tmp_path, base, kind)
    oracle = oracle_of(folder, base)
    # The router of Lily takes the mean over a batch.
    parts = [ids[row : row + 1] for row in range(20)] if kind == "LILY" else [ids]
    expected = [text for part in parts for text in texts(oracle, part, model)]
    wanted = np.concatenate([log_probs(oracle, ids[row : row + 1]) for row in range(2)])

    attached = backend.load(model, folder)

    assert isinstance(attached, PeftGenerator) == (kind not in PLAIN)
    assert remark(folder).startswith("" if kind in LORA else f"peft_type is '{kind}': PEFT itself computes the adapter")
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


def test_every_kind_of_peft_is_here(base: Any) -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert {kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING} == {"LORA", *OTHERS, *ALONE, *REFUSED, *UNTRIED}


def rewrite(folder: Path, **changes: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.fixture(scope="module")
def plain(base: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain LoRA as PEFT saves it."""
    return save(tmp_path_factory.mktemp("plain"), base, "lora")


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """A copy of a plain LoRA, to be changed."""
    return Path(shutil.copytree(plain, tmp_path / "adapter"))


@pytest.mark.parametrize("kind", ["MULTITASK_PROMPT_TUNING", "POLY"])
def test_kind_that_peft_cannot_ask_is_one_error(
    kind: str, base: Any, model: Model, backend: CpuBackend, tmp_path: Path
) -> None:
    folder = save(tmp_path, base, kind)

    with pytest.raises(
        AdapterError, match=rf"peft_type is '{kind}', which PEFT .* cannot compute here \({REFUSED[kind][1]}"
    ):
        backend.load(model, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a_key_of_2030": {"x": 1}}, "a_key_of_2030 is {'x': 1}, which PEFT .* does not know and would ignore"),
        (
            {"peft_type": "NEXT_YEARS"},
            "peft_type is 'NEXT_YEARS', which PEFT .* does not know; pip install --upgrade peft",
        ),
        ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS', expected 'CAUSAL_LM'"),
        ({"megatron_config": {"a": 1}}, "megatron_config is .* has PEFT read a module of Python, which is not allowed"),
        ({"peft_type": "SHADOW", "shadow_model": "mirror"}, REFUSED["SHADOW"][1]),
        ({"peft_type": "XLORA", "adapters": {"0": "org/name"}}, REFUSED["XLORA"][1]),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "init_lora_weights is 'loftq', which PEFT"),
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"use_dora": True, "target_modules": ["q_proj"]}, "missing adapter keys|has no use for"),
        ({"use_dora": True, "r": 16}, "cannot load here"),
    ],
    ids=["key", "kind", "task", "module", "model", "adapters", "loftq", "missing", "unused", "size"],
)
def test_what_peft_cannot_carry_out_is_one_error_with_a_way_out(
    changes: dict[str, Any], message: str, folder: Path, model: Model, backend: CpuBackend
) -> None:
    rewrite(folder, **changes)

    with pytest.raises(AdapterError, match=message) as caught:
        backend.load(model, folder)
    assert "\n" not in str(caught.value)


def test_switch_of_next_year_that_is_off_is_carried_out(folder: Path, model: Model, backend: CpuBackend) -> None:
    before = backend.load(model, folder).complete(PROMPTS[:3], GREEDY)

    answers = backend.load(model, rewrite(folder, a_switch_of_2030=False)).complete(PROMPTS[:3], GREEDY)

    assert [each.text for each in answers] == [each.text for each in before]
    assert remark(folder).startswith("a_switch_of_2030 is False: PEFT itself computes the adapter")


def test_pickle_beside_the_weights_is_never_read(folder: Path, model: Model, backend: CpuBackend) -> None:
    rewrite(folder, use_qalora=False, a_switch_of_2030=False)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04 no pickle")

    assert backend.load(model, folder).complete(PROMPTS[:1], GREEDY)


def test_folder_of_mlx_is_the_same_lora(plain: Path, model: Model, backend: CpuBackend, tmp_path: Path) -> None:
    write_mlx(tmp_path, read_peft(plain), num_layers=2)
    ids = model.tokenizer.encode_prompts(PROMPTS[:2])

    for fused in (False, True):
        theirs, ours = (backend.load(model, folder, fused=fused).log_probs(ids) for folder in (plain, tmp_path))
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("kind", ["PREFIX_TUNING", "LILY", "dora"])
def test_prompts_of_any_length_and_samples_do_not_depend_on_their_batch(
    kind: str, base: Any, model: Model, backend: CpuBackend, tmp_path: Path
) -> None:
    generator = backend.load(model, save(tmp_path, base, kind))
    prompts = [Prompt("a"), Prompt("a longer one", "Be brief."), Prompt("yes or no?")]
    drawn = GenerationSettings(max_tokens=4, temperature=0.7, seed=3)

    for settings in (GREEDY, drawn):
        together = [each.text for each in generator.complete(prompts, settings)]
        alone = [each.text for prompt in prompts for each in generator.complete([prompt], settings)]
        assert together == alone
    assert "".join(generator.stream(prompts[1], GREEDY)) == generator.complete(prompts[1:2], GREEDY)[0].text
    generator.close()


def test_patterns_and_targets_match_as_in_peft(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 made-up configurations: PEFT's own functions give the same layers, ranks and scales."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists
    from peft.utils.other import get_pattern_key

    monkeypatch.setattr(expressions, "_TAME", re.compile(r".*"))  # saves 600 processes
    names = [name for name, module in base.named_modules() if isinstance(module, torch.nn.Linear) and "." in name]
    names += ["model.h.3.attn.c_attn", "model.layers.1.experts.0.up_proj", "model.layers.11.mlp.down_proj"]
    parts = [
        "q_proj",
        "self_attn.q_proj",
        "layers.0.self_attn.q_proj",
        names[3],
        "down_proj",
        "proj",
        ".*",
        "1.mlp.up_proj",
    ]
    patterns = [
        *parts,
        r".*\.layers\.0\..*(q_proj|v_proj)$",
        "(q|k)_proj",
        r"layers\.[0-1]\..*",
        "q_proj$|v_proj",
        "^model.*",
    ]
    chance = random.Random(0)
    for _ in range(300):
        settings: dict[str, Any] = {
            "r": chance.choice([4, 8]),
            "lora_alpha": chance.choice([8, 16]),
            "use_rslora": chance.random() < 0.3,
            "target_modules": chance.choice([chance.sample(parts, 3), chance.choice(patterns)]),
            "exclude_modules": chance.choice([None, None, chance.sample(parts, 1), chance.choice(patterns)]),
            "rank_pattern": {key: chance.choice([2, 16]) for key in chance.sample(patterns, chance.randrange(3))},
            "alpha_pattern": {key: chance.choice([1, 64]) for key in chance.sample(patterns, chance.randrange(4))},
        }
        if isinstance(settings["target_modules"], list):
            settings["layers_to_transform"] = chance.choice([None, None, [], 0, [1, 11]])
            if settings["layers_to_transform"] is not None:
                settings["layers_pattern"] = chance.choice([None, "layers", ["h", "layers"]])
        config: Any = LoraConfig(**settings)
        expected = {}
        for name in names:
            found = check_target_module_exists(config, name)
            if found and not isinstance(found, _ExcludedModule):
                rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, name), config.r)
                alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, name), config.lora_alpha)
                expected[name] = (rank, alpha / (rank**0.5 if config.use_rslora else rank))

        ours = applied(Path("adapter_config.json"), settings, names)

        assert {name: (layer.rank, layer.scale) for name, layer in ours.items()} == expected, settings
