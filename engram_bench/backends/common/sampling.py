"""Drawing tokens from logits with numbers of one's own: a row's draw depends on nothing but that row."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from engram_bench.records import GenerationSettings


def row_random(settings: GenerationSettings, prompt: Sequence[int]) -> np.random.Generator | None:
    """Random numbers of one sampled answer, of seed, sample and prompt alone; None where the answer is greedy."""
    if settings.temperature == 0:
        return None
    digest = sha256(np.array(prompt, dtype=np.int64).tobytes()).digest()
    return np.random.default_rng([settings.seed, settings.sample, *digest])


def draw(logits: NDArray[np.float32], settings: GenerationSettings, random: np.random.Generator) -> int:
    """A token from the nucleus of (V,) *logits*: the fewest tokens whose probabilities reach *top_p*.

    At least one token is always in it, so *top_p* 0 is greedy. One number of *random* is used per token.

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
    place = np.searchsorted(cumulative[:size], point * cumulative[size - 1], side="right")
    return int(order[min(place, size - 1)])
