"""LoRA adapters on disk: PEFT's layout and mlx-lm's, read and written with numpy alone.

========== ============================================= ================================
what       PEFT                                          mlx-lm
========== ============================================= ================================
weights    ``adapter_model.safetensors``                 ``adapters.safetensors``
tensors    ``base_model.model.PATH.lora_A.weight`` (r,in) ``PATH.lora_a`` (in, r)
           ``base_model.model.PATH.lora_B.weight`` (out,r) ``PATH.lora_b`` (r, out)
strength   ``lora_alpha / r``                            ``scale``, used as it is
========== ============================================= ================================

Sources: ``peft.utils.save_and_load`` (0.21), ``mlx_lm.tuner.utils`` (0.32).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram_bench.adapters.files import Floats, read_config, read_tensors, tensor_shapes, write_json, write_tensors
from engram_bench.adapters.found import (
    MLX_CONFIG,
    MLX_WEIGHTS,
    PEFT_CONFIG,
    PEFT_WEIGHTS,
    adapter_files,
    beyond_lora,
    is_mlx,
    only_mlx,
)
from engram_bench.adapters.peft_rules import applied, beyond_plain, only_peft, pair_of
from engram_bench.adapters.targets import Shapes, last_names
from engram_bench.errors import AdapterError
from engram_bench.records import Recipe

MAX_SCALE = 1e9
"""Largest scale of an adapter of mlx-lm, far beyond any that was trained."""
PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class LoraUpdate:
    """What an adapter adds to one linear layer: *scale* · B A."""

    a: Floats
    """(r, inputs)."""
    b: Floats
    """(outputs, r)."""
    scale: float

    @property
    def rank(self) -> int:
        """Inner size r."""
        return len(self.a)


Updates = Mapping[str, LoraUpdate]
"""Module path in the model (``model.layers.0.self_attn.q_proj``) → its update."""


# ── PEFT ────────────────────────────────────────────────────────────────────────────────────────


def read_updates(folder: Path) -> dict[str, LoraUpdate]:
    """The updates of a plain LoRA in *folder*, in PEFT's layout or mlx-lm's.

    Raises:
        AdapterError: As :func:`read_peft` and :func:`read_mlx`.
    """
    adapter_files(folder)
    return read_mlx(folder) if is_mlx(folder) else read_peft(folder)


def read_peft(folder: Path) -> dict[str, LoraUpdate]:
    """The updates of an adapter folder in PEFT's layout, in order of their names; layers that PEFT leaves out are absent.

    Raises:
        AdapterError: A file is missing or cut, a tensor has no partner or another rank than the configuration gives it, or
            the adapter is more than plain LoRA (DoRA, biases, replaced modules, adapted embeddings, …).
    """
    config = read_config(folder / PEFT_CONFIG)
    path = folder / PEFT_WEIGHTS
    if reason := beyond_plain(config, tensor_shapes(path)):
        raise only_peft(folder, reason)
    halves: dict[str, dict[str, Floats]] = {}
    for key, tensor in read_tensors(path).items():
        name, half = pair_of(key) or (key, "")
        halves.setdefault(name, {})[half] = tensor
    pairs = _matched(path, halves)
    found = {}
    for name, layer in applied(folder / PEFT_CONFIG, config, list(pairs)).items():
        a, b = pairs[name]
        if len(a) != layer.rank:
            msg = f"{folder / PEFT_CONFIG}: gives {name} rank {layer.rank}, but the weights have rank {len(a)}"
            raise AdapterError(msg)
        found[name] = LoraUpdate(a, b, layer.scale)
    return found


def write_peft(folder: Path, updates: Updates, recipe: Recipe, *, base: str) -> None:
    """Write *updates*, all of the rank and scale of *recipe*, into *folder* so that PEFT loads it.

    *base* is the model's name as vLLM and PEFT show it. Layers are named by their last names, as usual, unless the recipe
    leaves out blocks or names paths: then each adapted layer is named by its path.
    """
    tensors = {}
    for name, update in updates.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = update.a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = update.b
    write_tensors(folder / PEFT_WEIGHTS, tensors)
    by_path = recipe.layers != "all" or recipe.targets[0].startswith("/")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": recipe.rank,
        "lora_alpha": int(recipe.alpha) if recipe.alpha == int(recipe.alpha) else recipe.alpha,
        "target_modules": sorted(updates if by_path else {name.rpartition(".")[2] for name in updates}),
        "lora_dropout": recipe.lora_dropout,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": recipe.use_rslora,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    write_json(folder / PEFT_CONFIG, config)


# ── mlx-lm ──────────────────────────────────────────────────────────────────────────────────────


def read_mlx(folder: Path) -> dict[str, LoraUpdate]:
    """The updates of an adapter folder written by mlx-lm.

    Raises:
        AdapterError: A file is missing or cut, a tensor has no partner or another rank than the configuration says, or it is a
            full or DoRA fine-tuning.
    """
    path = folder / MLX_CONFIG
    config = read_config(path)
    if reason := beyond_lora(folder):
        raise only_mlx(folder, reason)
    parameters = config.get("lora_parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    if not isinstance(parameters.get("scale"), (int, float)) or not abs(parameters["scale"]) <= MAX_SCALE:
        msg = f"{path}: lora_parameters.scale is {parameters.get('scale')!r}, expected a number"
        raise AdapterError(msg)
    halves: dict[str, dict[str, Floats]] = {}
    for key, tensor in read_tensors(folder / MLX_WEIGHTS).items():
        name, half = key.rsplit(".lora_", 1)
        halves.setdefault(name, {})[half] = tensor.T
    pairs = _matched(folder / MLX_WEIGHTS, halves)
    keys = parameters.get("keys")
    for name, (a, _) in pairs.items():
        if len(a) != parameters.get("rank", len(a)):
            msg = f"{path}: lora_parameters.rank {parameters['rank']}, but the weights of {name} have rank {len(a)}"
            raise AdapterError(msg)
        if isinstance(keys, list) and name not in keys and _in_block(name) not in keys:
            msg = f"{path}: lora_parameters.keys lacks {_in_block(name)}, but the weights have it; mlx-lm refuses this"
            raise AdapterError(msg)
    return {name: LoraUpdate(a, b, float(parameters["scale"])) for name, (a, b) in pairs.items()}


def write_mlx(folder: Path, updates: Updates, *, num_layers: int) -> None:
    """Write *updates* into *folder* so that ``mlx_lm.load(model, adapter_path=folder)`` takes them.

    mlx-lm knows one rank and one scale per adapter, hence :func:`uniform`. *num_layers* is the model's number of blocks.
    """
    rank, scale, same = uniform(updates)
    tensors = {}
    for name, update in same.items():
        tensors[f"{name}.lora_a"] = update.a.T
        tensors[f"{name}.lora_b"] = update.b.T
    write_tensors(folder / MLX_WEIGHTS, tensors)
    keys = sorted({_in_block(name) for name in updates})
    config = {
        "fine_tune_type": "lora",
        "num_layers": num_layers,
        "lora_parameters": {"rank": rank, "scale": scale, "dropout": 0.0, "keys": keys},
    }
    write_json(folder / MLX_CONFIG, config)


def _in_block(name: str) -> str:
    """Path of a layer inside its block: ``self_attn.q_proj``."""
    return name.rsplit(".layers.", maxsplit=1)[-1].partition(".")[2]


def uniform(updates: Updates) -> tuple[int, float, dict[str, LoraUpdate]]:
    """One rank and scale for all *updates*, and the updates in these terms.

    Smaller ranks are filled up with zeros and differing scales folded into B: no product changes but for rounding, and
    none at all where they already agree.
    """
    rank = max(update.rank for update in updates.values())
    scale = max(update.scale for update in updates.values())
    same = {}
    for name, update in updates.items():
        missing = rank - update.rank
        b = update.b if update.scale == scale else update.b * np.float32(update.scale / scale)
        same[name] = LoraUpdate(np.pad(update.a, ((0, missing), (0, 0))), np.pad(b, ((0, 0), (0, missing))), scale)
    return rank, scale, same


# ── against a model ─────────────────────────────────────────────────────────────────────────────


def check_fits(folder: Path, updates: Updates, shapes: Shapes) -> None:
    """Nothing, if every update belongs to a layer of the model and has its sizes.

    Raises:
        AdapterError: Names the first layers that do not, what was found and what the model has.
    """
    unknown = [name for name in updates if name not in shapes]
    if unknown:
        known = ", ".join(last_names(shapes))
        msg = f"{folder}: adapts {_first(unknown)}, which this model has not; its linear layers are {known}"
        raise AdapterError(msg)
    wrong = [
        f"{name} ({update.b.shape[0]}, {update.a.shape[1]}), expected {shapes[name]}"
        for name, update in updates.items()
        if (update.b.shape[0], update.a.shape[1]) != tuple(shapes[name])
    ]
    if wrong:
        msg = f"{folder}: adapts layers of other sizes: {_first(wrong)}"
        raise AdapterError(msg)
    if not updates:
        msg = f"{folder}: holds no LoRA tensors for the layers that it names, expected some"
        raise AdapterError(msg)
    if not is_mlx(folder):
        _check_start(folder, updates, shapes)


def _check_start(folder: Path, updates: Updates, shapes: Shapes) -> None:
    """Nothing, if layers that the configuration names and the weights lack start without an effect, as is usual in PEFT."""
    config = read_config(folder / PEFT_CONFIG)
    start = config.get("init_lora_weights", True)
    if start is True or start in ("gaussian", "eva"):
        return
    missing = [name for name in applied(folder / PEFT_CONFIG, config, list(shapes)) if name not in updates]
    if missing:
        msg = f"{folder}: no tensors for {_first(missing)}, which init_lora_weights={start!r} would start at random"
        raise AdapterError(msg)


# ── checks ──────────────────────────────────────────────────────────────────────────────────────


def _matched(path: Path, pairs: Mapping[str, Mapping[str, Floats]]) -> dict[str, tuple[Floats, Floats]]:
    """Layer → (A (r, in), B (out, r)) with one r, sorted by block and name."""
    for name, pair in pairs.items():
        shapes = [pair[part].shape if part in pair else None for part in "ab"]
        if None in shapes or len(pair["a"]) != pair["b"].shape[1]:
            msg = f"{path}: {name} has A and B of shapes {shapes[0]} and {shapes[1]}, expected (r, in) and (out, r)"
            raise AdapterError(msg)
    return {name: (pairs[name]["a"], pairs[name]["b"]) for name in sorted(pairs, key=_natural)}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts block 2 before block 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in name.split(".")]


def _first(names: list[str], count: int = 3) -> str:
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")
