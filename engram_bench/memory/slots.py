"""Which rows the positions of a batch read, arranged as a pass computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engram_bench.memory.query import Query
from engram_bench.memory.table import RowTable

Slots = Mapping[int, NDArray[np.int64]]
"""Rows (M, S) that the positions of a batch read, per block; 0 where none is read."""
Rows = NDArray[np.int64]


def query_rows(table: RowTable, queries: Sequence[Query]) -> dict[int, list[Rows]]:
    """Rows (positions, S) that the positions of each query read, per block."""
    ends = np.cumsum([query.num_positions for query in queries])[:-1]
    return {block: np.split(table.rows(queries, block), ends) for block in table.config.layers}


def flattened(size: int, paths: Sequence[Rows], parts: Sequence[Rows]) -> Rows:
    """Rows (positions, S) of each example as one (*size*, S), each where its path leads, 0 elsewhere."""
    found = np.zeros((size, parts[0].shape[1]), dtype=np.int64)
    for path, part in zip(paths, parts, strict=True):
        found[path] = part
    return found


def batch_slots(table: RowTable, size: int, paths: Sequence[Rows], queries: Sequence[Query]) -> dict[int, Rows]:
    """Rows (*size*, S) of a flattened batch whose *paths* lead through the queries' positions, per block."""
    return {block: flattened(size, paths, parts) for block, parts in query_rows(table, queries).items()}


def arranged(parts: Sequence[Rows]) -> Rows:
    """Rows (positions, S) of each example as one (M, S): as many positions for each, filled up with 0."""
    found = np.zeros((len(parts), max(map(len, parts)), parts[0].shape[1]), dtype=np.int64)
    for row, part in enumerate(parts):
        found[row, : len(part)] = part
    return found.reshape(-1, parts[0].shape[1])
