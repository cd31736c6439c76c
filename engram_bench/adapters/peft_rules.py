"""What an ``adapter_config.json`` means by PEFT's own rules, worked out without PEFT.

A configuration is *known to be* y = Wx + s · BAx where each of its keys and values is in :data:`KNOWN_GOOD`; any other is left
to PEFT itself. Sources: ``peft.tuners.lora.config.LoraConfig``, ``peft.tuners.tuners_utils.check_target_module_exists`` and
``peft.utils.other.get_pattern_key``, version 0.21.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram_bench.adapters.expressions import Expression, matches
from engram_bench.errors import AdapterError

ANY = None
"""Every value of the key is known to be good."""
KNOWN_GOOD: Mapping[str, tuple[Any, ...] | None] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM",),
    # Names, and settings of training alone.
    "auto_mapping": ANY,
    "base_model_name_or_path": ANY,
    "eva_config": ANY,
    "inference_mode": ANY,
    "lora_dropout": ANY,
    "peft_version": ANY,
    "revision": ANY,
    "runtime_config": ANY,
    # Settings that count only beside another key, which is judged by itself.
    "megatron_core": ANY,
    "qalora_group_size": ANY,
    # Ranks, scales and adapted layers, which this module works out.
    "r": ANY,
    "lora_alpha": ANY,
    "rank_pattern": ANY,
    "alpha_pattern": ANY,
    "use_rslora": (True, False),
    "target_modules": ANY,
    "exclude_modules": ANY,
    "layers_to_transform": ANY,
    "layers_pattern": ANY,
    # Start values that leave the base weights as they are; ``pissa``, ``olora`` and others do not.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "bias": ("none",),
    "ensure_weight_tying": (False,),
    "fan_in_fan_out": (False,),
    "loftq_config": ({},),
    "lora_bias": (False,),
    "merge_weights": (False,),
    "modules_to_save": ([],),
    "use_dora": (False,),
    "use_qalora": (False,),
}
"""Key → values with which an adapter is plain LoRA. Null is good for every key: PEFT writes it where nothing is set."""
ALL_LINEAR = "all-linear"
WAY_OUT = (
    "merge it where it was made (merge_and_unload, then save_pretrained into a folder) and test that model: "
    "--engram-model=FOLDER --engram-adapter=none"
)

_PAIR = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")


@dataclass(frozen=True, slots=True)
class Applied:
    """Rank and scale that a configuration gives one layer."""

    rank: int
    scale: float


def pair_of(tensor: str) -> tuple[str, str] | None:
    """Module path and half (``a`` or ``b``) that a tensor's name in PEFT's layout says; None for another tensor."""
    match = _PAIR.fullmatch(tensor)
    return (match[1], match[2].lower()) if match else None


def beyond_plain(config: Mapping[str, Any], tensors: Mapping[str, Sequence[int]]) -> str:
    """The first thing that is not known to leave y = Wx + s · BAx as it is; empty for plain LoRA.

    Args:
        config: Content of ``adapter_config.json``.
        tensors: Shape of each tensor by its name.
    """
    for key, value in ({"peft_type": config.get("peft_type")} | dict(config)).items():  # other kinds have other keys
        good = KNOWN_GOOD.get(key, ())
        if value is not None and good is not ANY and not any(value == each for each in good):
            return f"{key} is {reprlib.repr(value)}"
    for needed in ("peft_type", "target_modules"):
        if config.get(needed) is None:
            return f"{needed} is not set"
    for name, shape in tensors.items():
        pair = pair_of(name)
        if pair is None or len(shape) != 2:
            return f"it has a tensor {name[:100]!r}"
        if not re.search(r"\.\d+\.", pair[0]):
            return f"it adapts {pair[0][:100]}, outside the blocks"
    return ""


def only_peft(folder: Path, reason: str) -> AdapterError:
    """The error for an adapter that plain LoRA cannot express, with the ways out."""
    return AdapterError(
        f"{folder}: {reason}, which is more than plain LoRA: expected backend cpu or cuda, where PEFT itself computes it; or "
        f"{WAY_OUT}"
    )


def applied(path: Path, config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Applied]:
    """Rank and scale of each of *names* that PEFT adapts under a plain configuration; PEFT leaves out the others.

    Args:
        path: File of the configuration, for messages.
        config: Its content.
        names: Module paths, such as ``model.layers.0.self_attn.q_proj``.

    Raises:
        AdapterError: A value has another type than PEFT takes, or a pattern is too large, too slow or no pattern.
    """
    _check_types(path, config)
    ranks, alphas = _per_layer(path, config, "rank_pattern", names), _per_layer(path, config, "alpha_pattern", names)
    targeted = _targeted(path, config, names)
    found = {}
    for name in names:
        if name in targeted:
            rank, alpha = ranks.get(name, config["r"]), alphas.get(name, config["lora_alpha"])
            found[name] = Applied(int(rank), float(alpha) / (rank**0.5 if config.get("use_rslora") else rank))
    return found


def check_patterns(path: Path, config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Nothing, if all regular expressions of a configuration that PEFT will match against *names* end in time.

    Raises:
        AdapterError: They do not.
    """
    for key, value in config.items():
        if "module" in key or "pattern" in key:
            written = [value] if isinstance(value, str) else value if isinstance(value, (list, dict)) else []
            patterns = [
                Expression(each, rf"(?:^|.*\.)(?:{each})(?:$|\..*)") for each in written if isinstance(each, str)
            ]
            matches(path, key, [each for each in patterns if each.is_valid], names)


# ── the rules ───────────────────────────────────────────────────────────────────────────────────


def _per_layer(path: Path, config: Mapping[str, Any], key: str, names: Sequence[str]) -> dict[str, float]:
    """Layer → its own value: that of the first pattern that matches an end of its path, as ``get_pattern_key`` finds it."""
    patterns = config.get(key) or {}
    rows = matches(path, key, [Expression(each, rf"(.*\.)?({each})$") for each in patterns], names)
    found: dict[str, float] = {}
    for value, row in zip(patterns.values(), rows, strict=True):
        for name, match in zip(names, row, strict=True):
            if match is not None:
                found.setdefault(name, value)
    return found


def _targeted(path: Path, config: Mapping[str, Any], names: Sequence[str]) -> set[str]:
    """The layers that ``check_target_module_exists`` finds."""
    excluded = _named(path, config, "exclude_modules", names)
    found = _named(path, config, "target_modules", names) - excluded
    layers = config.get("layers_to_transform")
    if isinstance(config["target_modules"], str) or layers is None or layers == []:
        return found
    wanted = [layers] if isinstance(layers, int) else layers
    indices = _block_indices(path, config, names)
    # A full path among the targets counts whatever its block is.
    return {name for name in found if name in config["target_modules"] or indices.get(name) in wanted}


def _named(path: Path, config: Mapping[str, Any], key: str, names: Sequence[str]) -> set[str]:
    """The layers that a list of ends of paths names, or one regular expression for whole paths."""
    wanted = config.get(key) or []
    if isinstance(wanted, str):
        if key == "target_modules" and wanted.lower() == ALL_LINEAR:
            return set(names)
        (row,) = matches(path, key, [Expression(wanted, wanted, "fullmatch")], names)
        return {name for name, match in zip(names, row, strict=True) if match is not None}
    return {name for name in names if any(name == each or name.endswith(f".{each}") for each in wanted)}


def _block_indices(path: Path, config: Mapping[str, Any], names: Sequence[str]) -> dict[str, int]:
    """Layer → index of its block: the first number of its path, or the first after one of ``layers_pattern``."""
    patterns = config.get("layers_pattern") or []
    patterns = [patterns] if isinstance(patterns, str) else patterns
    whole = [Expression(each, rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\.") for each in patterns]
    rows = matches(path, "layers_pattern", whole or [Expression("", r".*?\.[^.]*\.(?P<idx>\d+)\.")], names)
    found: dict[str, int] = {}
    for row in rows:
        for name, index in zip(names, row, strict=True):
            if index:
                found.setdefault(name, int(index))
    return found


# ── types ───────────────────────────────────────────────────────────────────────────────────────


def _check_types(path: Path, config: Mapping[str, Any]) -> None:
    for key in ("r", "lora_alpha"):
        if not _is_positive(config.get(key)):
            _wrong(path, key, config.get(key), "a positive number")
    for key in ("rank_pattern", "alpha_pattern"):
        value = config.get(key) or {}
        if not (isinstance(value, dict) and all(map(_is_positive, value.values()))):
            _wrong(path, key, value, "patterns with positive numbers")
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        value = config.get(key) or []
        if not (isinstance(value, str) or _are(str, value)):
            _wrong(path, key, value, "a text or a list of texts")
    value = config.get("layers_to_transform")
    if not (value is None or isinstance(value, int) or _are(int, value)):
        _wrong(path, "layers_to_transform", value, "a block's index or a list of them")


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _are(kind: type, value: Any) -> bool:
    return isinstance(value, list) and _all(kind, value)


def _all(kind: type, values: Iterable[Any]) -> bool:
    return all(isinstance(value, kind) for value in values)


def _wrong(path: Path, key: str, value: Any, expected: str) -> None:
    msg = f"{path}: {key} is {reprlib.repr(value)}, expected {expected}"
    raise AdapterError(msg)
