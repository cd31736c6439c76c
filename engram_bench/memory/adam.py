"""The optimizer of a memory's values.

It is written with the operators that numpy's arrays and torch's tensors share, and computes with the library whose arrays it is
given: square roots and powers of numpy and torch differ in the last bit, and a stored memory must be trained again to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BETAS, EPSILON = (0.9, 0.999), 1e-8


class RowAdam:
    """Adam in which each row counts its own updates, so that a row which is seldom read moves as far as the others.

    Args:
        values: Array whose rows move in place.
        trainable: Whether each row moves; None moves all.

    Source: Kingma & Ba (2015), arXiv 1412.6980.
    """

    def __init__(self, values: Any, trainable: NDArray[np.bool_] | None = None) -> None:
        self._values = values  # (R, …)
        self._trainable = trainable
        self._mean, self._square = values - values, values - values
        self._updates = self._mean.reshape(len(values), -1)[:, 0].reshape(-1, *[1] * (values.ndim - 1)) * 1

    def state(self) -> dict[str, Any]:
        """The arrays that a step changes, by name."""
        return {"values": self._values, "mean": self._mean, "square": self._square, "updates": self._updates}

    def step(self, gradient: Any, rate: float, rows: NDArray[np.int64] | None = None) -> None:
        """Move the *rows* (n,), or all if None, against their *gradient* (n, …) at a learning *rate*."""
        moved: Any = slice(None) if rows is None else rows
        if rows is not None and self._trainable is not None:
            kept = np.flatnonzero(self._trainable[rows])
            moved, gradient = rows[kept], gradient[kept]
        self._updates[moved] += 1
        count = self._updates[moved]
        mean = BETAS[0] * self._mean[moved] + (1 - BETAS[0]) * gradient
        square = BETAS[1] * self._square[moved] + (1 - BETAS[1]) * gradient**2
        self._mean[moved], self._square[moved] = mean, square
        size = (square / (1 - BETAS[1] ** count)) ** 0.5 + EPSILON
        self._values[moved] -= rate * mean / (1 - BETAS[0] ** count) / size
