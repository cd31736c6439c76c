"""The common part of every training, whatever library computes: batches, learning rates, checkpoints, identity."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256

import numpy as np

from engram_bench.models.encoding import Encoded
from engram_bench.records import Recipe

ADAM_BETAS = (0.9, 0.99)
"""Decay rates of a LoRA's optimizer. A training is over after some two hundred steps: a second moment of the usual 0.999 would
remember the large gradients of its beginning to the end."""


def batch_indices(step: int, recipe: Recipe, num_examples: int) -> list[int]:
    """Examples of a step, from epochs shuffled by the seed: they depend on the step, not on what came before it."""
    found = []
    for taken in range(step * recipe.batch_size, (step + 1) * recipe.batch_size):
        epoch, position = divmod(taken, num_examples)
        order = np.random.default_rng([recipe.seed, epoch]).permutation(num_examples)
        found.append(int(order[position]))
    return found


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine or a straight line to 0 at the last step, or constant."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    if recipe.schedule == "constant" or warm < 1.0:
        return recipe.learning_rate * warm
    share = max(0, step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    left = 1 - share if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))
    return recipe.learning_rate * left


def checkpoint_steps(recipe: Recipe) -> dict[int, str]:
    """Step after which a checkpoint is kept → its folder, relative to the adapter's; evenly spaced, the last included."""
    steps = {round(recipe.steps * (i + 1) / recipe.checkpoints) for i in range(recipe.checkpoints)}
    return {step: f"checkpoints/step-{step:06d}" for step in sorted(steps)}


def identity_of(recipe: Recipe, examples: Sequence[Encoded], base_fingerprint: str, settings: str) -> str:
    """Hex digest of all that a resumed training must have in common with the interrupted one."""
    content = json.dumps([asdict(recipe), [asdict(example) for example in examples], base_fingerprint, settings])
    return sha256(content.encode()).hexdigest()


def peak_memory_mb() -> float:
    """Most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
