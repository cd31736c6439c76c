"""Low-rank updates of linear layers, y = x Wᵀ + scale · (x Aᵀ) Bᵀ, as views into one vector of trained values.

Source: Hu et al. (2021), LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engram_bench.adapters.layout import LoraUpdate, check_fits, read_updates, write_peft
from engram_bench.adapters.targets import Shapes, adapted_layers
from engram_bench.backends.torch.dropout import Dropout
from engram_bench.records import Recipe


class Lora:
    """A (r, in) and B (out, r) of every adapted layer, and their gradients.

    They lie in one vector, so that clipping, the optimizer and the resumable state are a few operations on a few tensors.
    """

    def __init__(
        self,
        shapes: Shapes,
        *,
        ranks: Mapping[str, int],
        scales: Mapping[str, float],
        device: str,
        dropout_rate: float = 0.0,
    ) -> None:
        self.scales = dict(scales)
        self.dropout_rate = dropout_rate
        """Share of the inputs that a training step leaves out."""
        self.version = 0
        """Counts changes of the values, for networks that keep a prepared copy."""
        self.gradient: Tensor | None = None
        self.dropout: Dropout | None = None
        """What is left out of the inputs in the present pass; None but in a training step with dropout."""
        self._sizes = {name: (ranks[name], *shapes[name]) for name in shapes}
        num_values = sum(rank * (outputs + inputs) for rank, outputs, inputs in self._sizes.values())
        self.values = torch.zeros(num_values, device=device)
        self.a, self.b = self._views(self.values)

    def require_gradients(self) -> Tensor:
        """The gradient vector, zeroed; every A and B has its part of it as ``.grad``."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.values)
            for parameters, gradients in zip((self.a, self.b), self._views(self.gradient), strict=True):
                for name, gradient in gradients.items():
                    parameters[name].requires_grad_().grad = gradient
        return self.gradient.zero_()

    def spread(self, of_a: float, of_b: float) -> Tensor:
        """A vector like that of the values, *of_a* where an A has its values and *of_b* where a B has."""
        vector = torch.empty_like(self.values)
        for views, value in zip(self._views(vector), (of_a, of_b), strict=True):
            for view in views.values():
                view.fill_(value)
        return vector

    def delta(self, name: str) -> Tensor:
        """The update of the weight of layer *name*, (out, in)."""
        return self.scales[name] * (self.b[name].detach() @ self.a[name].detach())

    def save(self, folder: Path, recipe: Recipe, *, base: str) -> None:
        """Write the files of PEFT's layout into *folder*; *base* is the model's name in them."""
        updates = {
            name: LoraUpdate(
                self.a[name].detach().cpu().numpy(), self.b[name].detach().cpu().numpy(), self.scales[name]
            )
            for name in self.a
        }
        write_peft(folder, updates, recipe, base=base)

    def _views(self, vector: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        a, b, offset = {}, {}, 0
        for name, (rank, outputs, inputs) in self._sizes.items():
            a[name] = vector[offset : offset + rank * inputs].view(rank, inputs)
            offset += rank * inputs
            b[name] = vector[offset : offset + rank * outputs].view(outputs, rank)
            offset += rank * outputs
        return a, b


def new_lora(shapes: Shapes, recipe: Recipe, device: str) -> Lora:
    """An untrained adapter of *recipe*: A uniform within ±1/√in, as PEFT starts it (Kaiming with a = √5), and B zero.

    Raises:
        AdapterError: The model, whose linear layers have *shapes*, lacks one of the recipe's targets.
    """
    names = adapted_layers(recipe, shapes)
    lora = Lora(
        {name: shapes[name] for name in names},
        ranks=dict.fromkeys(names, recipe.rank),
        scales=dict.fromkeys(names, recipe.scale),
        device=device,
        dropout_rate=recipe.lora_dropout,
    )
    random = torch.Generator().manual_seed(recipe.seed)
    for a in lora.a.values():
        a.copy_((torch.rand(a.shape, generator=random) * 2 - 1) / a.shape[1] ** 0.5)
    return lora


def load_lora(folder: Path, shapes: Shapes, device: str) -> Lora:
    """The adapter of a *folder* of PEFT or mlx-lm for a model whose linear layers have *shapes*.

    Raises:
        AdapterError: A file is missing or damaged, it is no plain LoRA, or a layer is unknown or has other sizes.
    """
    updates = read_updates(folder)
    check_fits(folder, updates, shapes)
    lora = Lora(
        {name: shapes[name] for name in updates},
        ranks={name: update.rank for name, update in updates.items()},
        scales={name: update.scale for name, update in updates.items()},
        device=device,
    )
    for name, update in updates.items():
        lora.a[name].copy_(torch.tensor(update.a))
        lora.b[name].copy_(torch.tensor(update.b))
    return lora
