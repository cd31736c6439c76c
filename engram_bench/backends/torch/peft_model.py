"""Adapters that PEFT itself computes: a model of transformers with an adapter of any kind that PEFT can load, read safely."""

from __future__ import annotations

import inspect
import reprlib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engram_bench.adapters.files import read_config
from engram_bench.adapters.found import PEFT_CONFIG, PEFT_WEIGHTS, adapter_files, beyond_lora
from engram_bench.adapters.peft_rules import WAY_OUT, check_patterns
from engram_bench.backends.common.halving import is_out_of_memory
from engram_bench.errors import AdapterError

READS_ELSEWHERE: Mapping[str, str] = {
    "adapters": "other adapters",
    "megatron_config": "a module of Python",
    "prompt_tuning_init_state_dict_path": "another file",
    "shadow_model": "another model",
}
"""Keys with which PEFT reads more than the adapter's two files; a downloaded configuration must not choose what is read."""
MERGE_TOLERANCE = 1e-3
"""Largest change of a log-probability that merging may make in float32; a hundred times as much in shorter types."""


def open_peft(folder: Path, base: Any) -> Any:
    """The model *base* of transformers with the adapter in *folder* attached by PEFT; *base* must not be used otherwise.

    Only the adapter's configuration and its safetensors file are read.

    Raises:
        AdapterError: PEFT does not know the kind or a key of the configuration, does not take a tensor, or refuses the adapter.
    """
    import peft

    adapter_files(folder)
    config = _config(folder)
    check_patterns(folder / PEFT_CONFIG, read_config(folder / PEFT_CONFIG), [name for name, _ in base.named_modules()])
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices), warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        torch.manual_seed(0)  # some kinds draw numbers that their files leave out
        model = _carried_out(folder, "load", lambda: peft.PeftModel.from_pretrained(base, str(folder), config=config))
        unused = _carried_out(folder, "load", lambda: _unused(model, folder))
    missing = [str(each.message) for each in given if "missing adapter keys" in str(each.message)]
    if missing:
        msg = f"{folder}: {missing[0][:300]} Expected all tensors that {PEFT_CONFIG} asks for"
        raise AdapterError(msg)
    if unused:
        names = ", ".join(unused[:3])
        msg = f"{folder / PEFT_WEIGHTS}: PEFT {peft.__version__} has no use for {names} under {PEFT_CONFIG}; {WAY_OUT}"
        raise AdapterError(msg)
    model.requires_grad_(False).eval()
    _carried_out(folder, "compute", lambda: probe(model))
    return model


def merged(folder: Path, model: Any) -> Any:
    """The model of :func:`open_peft` with the adapter merged into its weights by PEFT, as a plain model of transformers.

    Raises:
        AdapterError: The adapter cannot be merged, or answers would change.
    """
    before = probe(model)
    plain = _carried_out(folder, "merge", partial(_merge, model)).eval()
    change = float((probe(plain) - before).abs().max())
    if not change <= MERGE_TOLERANCE * (1 if plain.dtype == torch.float32 else 100):
        msg = (
            f"{folder}: merged by PEFT, log-probabilities change by {change:.2g}, expected none: test it attached only"
        )
        raise AdapterError(msg)
    return plain


def virtual_tokens(model: Any) -> int:
    """Number of trained tokens that stand before every prompt; 0 for most kinds."""
    return int(getattr(model.active_peft_config, "num_virtual_tokens", 0) or 0)


def forward(model: Any, ids: Tensor) -> Tensor:
    """Logits (B, T, V) in float32 of token ids (B, T), all rows of one length, without a cache."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[:, -ids.shape[1] :].float()  # trained tokens before the prompt have logits too


def probe(model: Any) -> Tensor:
    """Log-probabilities (1, T, V) after a few tokens."""
    log_probs: Tensor = forward(model, _few_tokens(model)).log_softmax(-1)
    return log_probs


def depends_on_pass(model: Any) -> bool:
    """Whether the logits of a token depend on later tokens or on other rows of the pass, as with a router that averages."""
    ids = _few_tokens(model)
    alone, half = forward(model, ids), forward(model, ids[:, :4])
    beside = forward(model, torch.cat([ids, ids.flip(1)]))
    change = max((alone[:, :4] - half).abs().max(), (alone - beside[:1]).abs().max())
    return bool(change > 1e-3 * alone.abs().max())


def _few_tokens(model: Any) -> Tensor:
    size = model.get_input_embeddings().weight.shape[0]
    ids: Tensor = torch.arange(1, 9, device=model.device)[None] % size  # (1, 8)
    return ids


def _config(folder: Path) -> Any:
    """The configuration as an object of PEFT.

    Raises:
        AdapterError: PEFT does not know its kind or one of its keys, or the key would have PEFT read other files.
    """
    import peft
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    path = folder / PEFT_CONFIG
    settings = read_config(path)
    kinds: dict[str, Any] = {str(kind.value): made for kind, made in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    kind = settings.get("peft_type")
    if kind not in kinds:
        msg = f"{path}: peft_type is {reprlib.repr(kind)}, which PEFT {peft.__version__} does not know; {_UPGRADE}{WAY_OUT}"
        raise AdapterError(msg)
    if settings.get("task_type") not in (None, "CAUSAL_LM"):
        msg = f"{path}: task_type is {reprlib.repr(settings['task_type'])}, expected 'CAUSAL_LM': answers are generated"
        raise AdapterError(msg)
    for key, what in READS_ELSEWHERE.items():
        if settings.get(key):
            msg = f"{path}: {key} is {reprlib.repr(settings[key])} and has PEFT read {what}, which is not allowed; {WAY_OUT}"
            raise AdapterError(msg)
    known = set(inspect.signature(kinds[kind]).parameters) | {"runtime_config"}
    unknown = [key for key, value in settings.items() if key not in known and value not in (None, False, [], "")]
    if unknown:
        msg = (
            f"{path}: {unknown[0]} is {reprlib.repr(settings[unknown[0]])}, which PEFT {peft.__version__} does not know and "
            f"would ignore; {_UPGRADE}{WAY_OUT}"
        )
        raise AdapterError(msg)
    kept = {key: value for key, value in settings.items() if key in known and key != "runtime_config"}
    kept |= {"task_type": "CAUSAL_LM", "inference_mode": True}
    return _carried_out(folder, "read", lambda: kinds[kind].from_peft_type(**kinds[kind].check_kwargs(**kept)))


_UPGRADE = "pip install --upgrade peft, or "


def _merge(model: Any) -> Any:
    if not hasattr(model.base_model, "merge_and_unload"):
        raise NotImplementedError("it stands beside the weights")
    return model.merge_and_unload()


def _unused(model: Any, folder: Path) -> list[str]:
    """Names of the tensors in *folder* that PEFT does not load, which ``from_pretrained`` keeps to itself."""
    from peft.utils import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    stored = load_peft_weights(str(folder), device="cpu")
    if model.active_peft_config.is_prompt_learning:
        return sorted(stored.keys() - get_peft_model_state_dict(model).keys())
    loaded: Any = set_peft_model_state_dict(model, stored)
    return list(loaded.unexpected_keys)


def _carried_out(folder: Path, doing: str, work: Callable[[], Any]) -> Any:
    """What *work* gives; whatever PEFT raises becomes one error that names the key."""
    import peft

    try:
        return work()
    except Exception as error:  # PEFT's forty kinds raise every kind of error there is
        if is_out_of_memory(error):
            raise
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        way = "test it attached only" if doing == "merge" else WAY_OUT
        msg = f"{folder}: {beyond_lora(folder)}, which PEFT {peft.__version__} cannot {doing} here ({said}); {way}"
        raise AdapterError(msg) from error
