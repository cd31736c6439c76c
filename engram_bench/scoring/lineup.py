"""Candidates lined up: the same case of every run in one column, so that any two can be paired."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from engram_bench.errors import UsageError
from engram_bench.records import Comparison, Run
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.units import Unit, units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Runs = Run | Sequence[Run] | Mapping[str, Run]
"""What a candidate is given as: one run, or the runs of a recipe by seed."""


@dataclass(frozen=True)
class Grid:
    """Values of one metric: a row per run, a column per unit; NaN where a run has no such unit."""

    metric: str
    units: tuple[Unit, ...]
    """Unit of each column, as the first run that has it."""
    candidate: NDArray[np.float64]
    baseline: NDArray[np.float64]
    clusters: NDArray[np.intp]
    """Index of the pattern of each column."""

    def answered(self, rows: slice) -> NDArray[np.bool_]:
        """Columns in which every one of these rows has a value."""
        import numpy as np

        found: NDArray[np.bool_] = np.logical_not(np.isnan(self.candidate[rows]).any(axis=0))
        return found

    def in_scope(self, scope: str) -> NDArray[np.bool_]:
        """Columns of ``category:NAME`` or ``file:NAME``; every column for the empty scope."""
        import numpy as np

        return np.array([unit.is_in(scope) for unit in self.units])

    def clusters_of(self, columns: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Pattern of each of these columns, numbered from 0 without a gap."""
        import numpy as np

        found: NDArray[np.intp] = np.unique(self.clusters[columns], return_inverse=True)[1].astype(np.intp)
        return found


class Lineup:
    """All runs of all candidates with their comparisons; every figure of a candidate set is computed from one lineup."""

    def __init__(self, candidates: Mapping[str, Runs]) -> None:
        """Line the candidates up.

        Args:
            candidates: Name → its run, or its runs by seed; in the order of the user.

        Raises:
            UsageError: There is no candidate, or a candidate without a run.
        """
        self.runs = {name: _by_seed(name, given) for name, given in candidates.items()}
        """Candidate → seed → run."""
        if not self.runs:
            raise UsageError("candidates: found none, expected at least one run")
        sizes = [len(by_seed) for by_seed in self.runs.values()]
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        self.rows = {
            name: slice(start, start + size) for name, start, size in zip(self.runs, starts, sizes, strict=True)
        }
        """Candidate → its rows of every grid."""

    @cached_property
    def comparisons(self) -> dict[str, tuple[Comparison, ...]]:
        """Candidate → the comparison of each of its runs with its own baseline, without categories and files."""
        return {
            name: tuple(compare(run, slices=False) for run in by_seed.values()) for name, by_seed in self.runs.items()
        }

    @cached_property
    def grids(self) -> dict[str, Grid]:
        """Metric → its grid, for every metric that at least one run has."""
        found = [units(run) for run in self.all_runs]
        names = dict.fromkeys(chain.from_iterable(found))
        return {name: _grid(name, [by_metric.get(name, []) for by_metric in found]) for name in names}

    @property
    def all_runs(self) -> Iterator[Run]:
        """Every run in the order of the rows."""
        return chain.from_iterable(by_seed.values() for by_seed in self.runs.values())

    def is_recipe(self, name: str) -> bool:
        """Whether the candidate has runs under several seeds."""
        return len(self.runs[name]) > 1

    def check_spread(self, name: str) -> None:
        """Refuse a spread over a single seed.

        Raises:
            UsageError: The candidate has one run.
        """
        if not self.is_recipe(name):
            msg = f"candidate {name!r}: found 1 seed, expected at least 2 for a spread over seeds"
            raise UsageError(msg)


def _by_seed(name: str, given: Runs) -> dict[str, Run]:
    runs = {"1": given} if isinstance(given, Run) else given
    by_seed = dict(runs) if isinstance(runs, Mapping) else {str(seed): run for seed, run in enumerate(runs, start=1)}
    if not by_seed:
        msg = f"candidate {name!r}: found no run, expected at least one"
        raise UsageError(msg)
    return by_seed


def _grid(metric: str, found: Sequence[Sequence[Unit]]) -> Grid:
    import numpy as np

    columns: dict[Hashable, Unit] = {}
    for row in found:
        for unit in row:
            columns.setdefault(unit.key, unit)
    index = {key: column for column, key in enumerate(columns)}
    candidate, baseline = (np.full((len(found), len(columns)), np.nan) for _ in range(2))
    for number, row in enumerate(found):
        at = [index[unit.key] for unit in row]
        candidate[number, at] = [unit.candidate for unit in row]
        baseline[number, at] = [unit.baseline for unit in row]
    patterns = {pattern: number for number, pattern in enumerate(dict.fromkeys(u.pattern for u in columns.values()))}
    clusters = np.array([patterns[unit.pattern] for unit in columns.values()], dtype=np.intp)
    return Grid(metric, tuple(columns.values()), candidate, baseline, clusters)
