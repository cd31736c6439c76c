"""Sampling of tokens from logits, with random numbers of each row, so that a sample does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from engram_bench.records import GenerationSettings


def row_random(settings: GenerationSettings, prompt: Sequence[int]) -> np.random.Generator | None:
    """Random numbers for one sampled answer, which depend on seed, sample and prompt alone; None for a greedy answer."""
    if settings.temperature == 0:
        return None
    digest = sha256(np.array(prompt, dtype=np.int64).tobytes()).digest()
    return np.random.default_rng([settings.seed, settings.sample, *digest])


def draw(logits: NDArray[np.float32], settings: GenerationSettings, random: np.random.Generator) -> int:
    """A token id drawn from the nucleus of *logits* (V,): the fewest tokens whose probabilities reach *top_p*.

    The nucleus holds at least one token, so *top_p* 0 is greedy. Each call uses one random number.

    Source: Holtzman et al. (2020), The Curious Case of Neural Text Degeneration, arXiv 1904.09751.
    """
    point = random.random()
    weights = np.exp((logits - logits.max()).astype(np.float64) / settings.temperature)  # (V,)
    if settings.top_p >= 1.0:
        cumulative = np.cumsum(weights)
        return int(min(np.searchsorted(cumulative, point * cumulative[-1], side="right"), len(weights) - 1))
    order = np.argsort(-weights, kind="stable")
    cumulative = np.cumsum(weights[order])
    size = int(np.searchsorted(cumulative, settings.top_p * cumulative[-1])) + 1
    size = min(size, len(order))
    rank = np.searchsorted(cumulative[:size], point * cumulative[size - 1], side="right")
    return int(order[min(rank, size - 1)])
