"""A linear discriminant of two kinds of vectors that have more dimensions than there are vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram_bench.errors import AdapterError
from engram_bench.system.tensor_files import read_arrays, write_arrays

Vectors = NDArray[np.float32]

RIDGE = 1.0
"""Penalty on the weights, in units of the variance of a standardised dimension."""
FOLDS = 10


@dataclass(frozen=True)
class Discriminant:
    """Scores near 1 for positive vectors and near -1 for negative ones.

    Least squares on labels ±1 with a ridge penalty, both kinds weighing the same however many there are: Fisher's linear
    discriminant, its covariance shrunk towards the diagonal.

    Source: Fisher (1936), Ann. Eugenics 7, 179-188; Hoerl & Kennard (1970), Technometrics 12, 55-67.
    """

    weights: Vectors
    """Weights of the dimensions, (H,)."""
    bias: float
    negatives: Vectors
    """Scores of the negative vectors, each from a discriminant fitted without this vector (ten folds)."""

    @classmethod
    def fit(cls, positive: Vectors, negative: Vectors) -> Discriminant:
        """A discriminant fitted on *positive* (N, H) and *negative* (M, H) vectors."""
        folds = np.arange(len(negative)) % FOLDS
        scores = np.zeros(len(negative), np.float32)
        for fold in np.unique(folds):
            weights, bias = _solve(positive, negative[folds != fold])
            scores[folds == fold] = negative[folds == fold] @ weights + bias
        weights, bias = _solve(positive, negative)
        return cls(weights, bias, scores)

    def scores(self, vectors: Vectors) -> Vectors:
        """The scores (N,) of *vectors* (N, H)."""
        found: Vectors = vectors @ self.weights + np.float32(self.bias)
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all values, 12 hex digits."""
        values = np.concatenate([self.weights, [self.bias], self.negatives]).astype(np.float32)
        return sha256(values.tobytes()).hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the discriminant to a safetensors file, whole or not at all."""
        tensors = {"weights": self.weights, "negatives": self.negatives, "bias": np.array([self.bias], np.float32)}
        write_arrays(path, {name: np.asarray(values, np.float32) for name, values in tensors.items()})

    @classmethod
    def load(cls, path: Path) -> Discriminant:
        """The discriminant in a file of :meth:`save`.

        Raises:
            AdapterError: The file is damaged.
        """
        try:
            tensors, _ = read_arrays(path, inside=path.parent)
            found = cls(tensors["weights"], float(tensors["bias"][0]), tensors["negatives"])
        except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
            msg = f"{path}: cut off or damaged, expected a router ({error!r}); delete the file to have it fitted again"
            raise AdapterError(msg) from error
        return found


def _solve(positive: Vectors, negative: Vectors) -> tuple[Vectors, float]:
    """Weights (H,) and bias on the vectors as they are."""
    x = np.concatenate([positive, negative]).astype(np.float64)
    labels = np.repeat([1.0, -1.0], [len(positive), len(negative)])
    share = np.repeat([0.5 / len(positive), 0.5 / len(negative)], [len(positive), len(negative)])
    mean = share @ x
    spread = np.sqrt(share @ (x - mean) ** 2) + 1e-6
    z = (x - mean) / spread
    weighted = (z * share[:, None]).T  # (H, N + M)
    solved = np.linalg.solve(weighted @ z + RIDGE * np.eye(z.shape[1]), weighted @ labels) / spread
    return solved.astype(np.float32), float(-mean @ solved)  # the labels' weighted mean is 0
