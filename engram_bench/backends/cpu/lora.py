"""Low-rank updates of linear layers: y = x Wᵀ + scale · (x Aᵀ) Bᵀ, kept in one vector, stored in PEFT's layout.

Source: Hu et al. (2021), LoRA, arXiv 2106.09685; file layout of PEFT's ``PeftModel.from_pretrained``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engram_bench.errors import AdapterError
from engram_bench.records import Recipe

Shapes = Mapping[str, tuple[int, int]]
"""Module path of each linear layer → (outputs, inputs)."""

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PREFIX = "base_model.model."


class Lora:
    """A (R, in) and B (out, R) of every adapted layer: views into one flat vector, gradients alike.

    One vector makes clipping, the optimizer and the resumable state a few operations on three tensors.
    """

    def __init__(self, shapes: Shapes, ranks: Mapping[str, int], scales: Mapping[str, float], device: str) -> None:
        self.scales = dict(scales)
        self.version = 0
        """Counts changes of the values, for networks that keep a prepared copy."""
        sizes = [ranks[name] * (sum(shapes[name])) for name in shapes]
        self.flat = torch.zeros(sum(sizes), device=device)  # (parameters,)
        self.gradient: Tensor | None = None
        self.a: dict[str, Tensor] = {}
        self.b: dict[str, Tensor] = {}
        self._shapes = {name: (ranks[name], *shapes[name]) for name in shapes}
        self.a, self.b = self._views(self.flat)

    def start(self, seed: int) -> None:
        """Values as PEFT starts them: A uniform within ±1/√in (Kaiming with a = √5), B zero."""
        random = torch.Generator().manual_seed(seed)
        for a in self.a.values():
            a.copy_((torch.rand(a.shape, generator=random) * 2 - 1) / a.shape[1] ** 0.5)
        self.version += 1

    def require_gradients(self) -> Tensor:
        """The gradient vector, zeroed; the A's and B's become leaves whose ``.grad`` are views into it."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.flat)
            grad_a, grad_b = self._views(self.gradient)
            for parameters, gradients in ((self.a, grad_a), (self.b, grad_b)):
                for name, gradient in gradients.items():
                    parameters[name].requires_grad_().grad = gradient
        return self.gradient.zero_()

    def delta(self, name: str) -> Tensor:
        """What the update adds to the weight of layer *name*, (out, in)."""
        return self.scales[name] * (self.b[name].detach() @ self.a[name].detach())

    def save(self, folder: Path, *, rank: int, alpha: float, base: str) -> None:
        """Write the two files of PEFT's layout into *folder*, which exists."""
        tensors = {}
        for name in self.a:
            tensors[f"{PREFIX}{name}.lora_A.weight"] = self.a[name].detach().cpu().contiguous()
            tensors[f"{PREFIX}{name}.lora_B.weight"] = self.b[name].detach().cpu().contiguous()
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": rank,
            "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
            "target_modules": sorted({name.rpartition(".")[2] for name in self.a}),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "use_rslora": False,
            "use_dora": False,
            "modules_to_save": None,
            "inference_mode": True,
        }
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def _views(self, flat: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        a, b, offset = {}, {}, 0
        for name, (rank, outputs, inputs) in self._shapes.items():
            a[name] = flat[offset : offset + rank * inputs].view(rank, inputs)
            offset += rank * inputs
            b[name] = flat[offset : offset + rank * outputs].view(outputs, rank)
            offset += rank * outputs
        return a, b


def new_lora(shapes: Shapes, recipe: Recipe, device: str) -> Lora:
    """An untrained adapter of *recipe* for a model whose linear layers have *shapes*.

    Raises:
        AdapterError: The model has no layer of one of the recipe's targets.
    """
    known = sorted({name.rpartition(".")[2] for name in shapes})
    missing = [target for target in recipe.targets if target not in known]
    if missing:
        msg = f"recipe: targets {', '.join(missing)} are not in this model, expected some of {', '.join(known)}"
        raise AdapterError(msg)
    adapted = {name: shape for name, shape in shapes.items() if name.rpartition(".")[2] in recipe.targets}
    lora = Lora(
        adapted,
        ranks=dict.fromkeys(adapted, recipe.rank),
        scales=dict.fromkeys(adapted, recipe.alpha / recipe.rank),
        device=device,
    )
    lora.start(recipe.seed)
    return lora


def load_lora(folder: Path, shapes: Shapes, device: str) -> Lora:
    """The adapter of a PEFT-layout *folder* for a model whose linear layers have *shapes*.

    Raises:
        AdapterError: Files are missing or unreadable, a tensor is for another layer or has another shape, or the
            adapter uses more than low-rank updates (DoRA, biases, replaced modules).
    """
    config = _read_config(folder)
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        msg = f"{path}: expected a readable safetensors file ({error})"
        raise AdapterError(msg) from error
    pairs = _pairs(path, tensors, shapes)
    ranks = {name: a.shape[0] for name, (a, _) in pairs.items()}
    lora = Lora(
        {name: shapes[name] for name in pairs},
        ranks=ranks,
        scales={name: _scale(config, name, rank) for name, rank in ranks.items()},
        device=device,
    )
    for name, (a, b) in pairs.items():
        lora.a[name].copy_(a)
        lora.b[name].copy_(b)
    lora.version += 1
    return lora


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except OSError as error:
        msg = f"{path}: expected an adapter in PEFT's layout, found no readable {CONFIG_FILE}"
        raise AdapterError(msg) from error
    except ValueError as error:
        msg = f"{path}: expected JSON ({error})"
        raise AdapterError(msg) from error
    plain = {"use_dora": (False,), "bias": ("none",), "modules_to_save": (None, []), "fan_in_fan_out": (False,)}
    for key, values in plain.items():
        if config.get(key, values[0]) not in values:
            msg = f"{path}: {key} is {config[key]!r}, expected {values[0]!r} (plain LoRA)"
            raise AdapterError(msg)
    if config.get("peft_type") != "LORA" or not config.get("r"):
        msg = (
            f"{path}: peft_type is {config.get('peft_type')!r} with r {config.get('r')!r}, expected 'LORA' with a rank"
        )
        raise AdapterError(msg)
    return config


def _pairs(path: Path, tensors: Mapping[str, Tensor], shapes: Shapes) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer → (A, B), checked against *shapes*, in the model's order."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, part = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        if part not in ("lora_A", "lora_B") or name not in shapes:
            msg = f"{path}: tensor {key!r} belongs to no linear layer of this model, expected some of {_known(shapes)}"
            raise AdapterError(msg)
        found.setdefault(name, {})[part] = tensor
    pairs = {}
    for name, (outputs, inputs) in shapes.items():
        if name not in found:
            continue
        a, b = found[name].get("lora_A"), found[name].get("lora_B")
        if a is None or b is None or a.shape != (b.shape[1], inputs) or b.shape[0] != outputs:
            shown = [tuple(part.shape) if part is not None else None for part in (a, b)]
            msg = f"{path}: {name} has A and B of shapes {shown}, expected (r, {inputs}) and ({outputs}, r)"
            raise AdapterError(msg)
        pairs[name] = (a, b)
    return pairs


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    patterns = config.get("alpha_pattern") or {}
    alpha = next((value for key, value in patterns.items() if name.endswith(key)), config.get("lora_alpha", rank))
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _known(shapes: Shapes) -> str:
    return ", ".join(sorted({name.rpartition(".")[2] for name in shapes}))
