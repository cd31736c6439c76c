"""The values of a memory while they are trained, in the arrays of the library that computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engram_bench.memory.adam import RowAdam
from engram_bench.memory.files import StoredMemory
from engram_bench.memory.slots import Slots

Values = Mapping[str, Any]
"""Arrays by name: ``rows`` (R, d), ``projection`` (S·d, H) and what a gate has."""


class Arrays(Protocol):
    """A library's arrays."""

    def array(self, values: NDArray[np.float32]) -> Any:
        """A copy of *values* that may be moved in place."""

    def numpy(self, array: Any) -> NDArray[np.float32]:
        """The content of an array of the library."""


@dataclass(frozen=True)
class ReadValues:
    """The values that one pass computes with: of each table only the rows that the pass reads."""

    layers: Mapping[int, Values]
    """Values by block."""
    slots: Slots
    """Counted in the rows that are here."""
    rows: Mapping[int, NDArray[np.int64]]
    """Sorted rows of the table that are here, per block; row 0 is among them."""


class MemoryValues:
    """A memory's values and what their optimizers remember.

    Args:
        stored: Memory to start from; it stays as it is.
        arrays: The library that computes.
        trainable: Whether each row moves; then nothing but rows does. None moves all that the memory trains.
    """

    def __init__(self, stored: StoredMemory, arrays: Arrays, *, trainable: NDArray[np.bool_] | None = None) -> None:
        self._stored = stored
        self._arrays = arrays
        self._config = stored.table.config
        self._layers = {
            block: {name: arrays.array(values) for name, values in layer.values.items()}
            for block, layer in stored.layers.items()
        }
        self._adams = {
            (block, name): RowAdam(array, _moves(len(array), trainable) if name == "rows" else None)
            for block, layer in self._layers.items()
            for name, array in layer.items()
            if name == "rows"
            or (trainable is None and is_trained(name, train_projection=self._config.train_projection))
        }

    def read(self, slots: Slots) -> ReadValues:
        """The values that a pass needs whose positions read these rows."""
        rows = {block: np.union1d(slots[block], [0]) for block in self._layers}
        layers = {block: {**layer, "rows": layer["rows"][rows[block]]} for block, layer in self._layers.items()}
        return ReadValues(layers, {block: np.searchsorted(rows[block], slots[block]) for block in rows}, rows)

    def move(self, read: ReadValues, gradients: Mapping[int, Values]) -> None:
        """Move the values that were *read* against their gradients, by block and name; what has none stays."""
        for (block, name), adam in self._adams.items():
            if name not in gradients.get(block, {}):
                continue
            is_rows = name == "rows"
            rate = self._config.row_rate if is_rows else self._config.projection_rate
            adam.step(gradients[block][name], rate, read.rows[block] if is_rows else None)

    def stored(self) -> StoredMemory:
        """The memory with the values as they are now."""
        layers = {}
        for block, layer in self._layers.items():
            values = {name: self._arrays.numpy(array) for name, array in layer.items()}
            rows, projection = values.pop("rows"), values.pop("projection")
            layers[block] = replace(self._stored.layers[block], rows=rows, projection=projection, gate=values)
        return replace(self._stored, layers=layers)

    def state(self) -> dict[str, Any]:
        """Everything that training changes, by name; the arrays themselves, so that they can be filled again."""
        return {
            f"memory.{block}.{name}.{part}": array
            for (block, name), adam in self._adams.items()
            for part, array in adam.state().items()
        }


def is_trained(name: str, *, train_projection: bool) -> bool:
    """Whether training moves the values of this name."""
    return name != "projection" or train_projection


def _moves(num_rows: int, trainable: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which rows move: never row 0, which an unknown n-gram reads."""
    moves = np.ones(num_rows, dtype=np.bool_) if trainable is None else trainable.copy()
    moves[0] = False
    return moves
