"""The layers of a model that a recipe adapts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from engram_bench.errors import AdapterError
from engram_bench.records import Recipe

Shapes = Mapping[str, tuple[int, int]]
"""Module path of each linear layer of a model → (outputs, inputs)."""


def adapted_layers(recipe: Recipe, shapes: Shapes) -> list[str]:
    """Module paths of the linear layers that a recipe's targets and layers name, in the model's order.

    Raises:
        AdapterError: A target names no layer of the model, or the recipe's blocks are not all there.
    """
    blocks = _blocks(recipe.layers, shapes)
    return [name for name in _targeted(recipe.targets, shapes) if _block_of(name) in blocks]


def _targeted(targets: Sequence[str], shapes: Shapes) -> list[str]:
    known = last_names(shapes)
    if tuple(targets) == ("all-linear",):
        return list(shapes)
    if len(targets) == 1 and targets[0].startswith("/"):
        found = [name for name in shapes if re.fullmatch(targets[0][1:-1], name)]
        missing = [] if found else [targets[0]]
    else:
        found = [name for name in shapes if name.rpartition(".")[2] in targets]
        missing = [target for target in targets if target not in known]
    if missing or not targets:
        msg = f"recipe: targets {', '.join(missing) or 'none'}, not in this model; expected some of {', '.join(known)}"
        raise AdapterError(msg)
    return found


def _blocks(layers: str, shapes: Shapes) -> range:
    """Numbers of the blocks that ``all``, ``first N``, ``last N`` or ``FROM-TO`` stands for."""
    count = 1 + max(map(_block_of, shapes), default=-1)
    word, _, number = layers.partition(" ")
    if word in ("first", "last"):
        start, end = (0, int(number)) if word == "first" else (count - int(number), count)
    else:
        start, end = (
            (0, count) if layers == "all" else (int(layers.split("-", maxsplit=1)[0]), int(layers.split("-")[1]) + 1)
        )
    if not 0 <= start < end <= count:
        msg = f"recipe: layers is {layers!r}, but this model has {count} blocks, expected some of 0 to {count - 1}"
        raise AdapterError(msg)
    return range(start, end)


def _block_of(name: str) -> int:
    """Number of the block that a layer lies in, from its path."""
    return next(int(part) for part in name.split(".") if part.isdigit())


def last_names(shapes: Shapes) -> list[str]:
    """Names of the layers inside their modules, such as ``q_proj``, each once."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in shapes))
