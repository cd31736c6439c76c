"""One gate on a recipe with several seeds: its mean, whether the bound holds over seeds, and whether a gain is chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from engram_bench.records import Estimate, Measure
from engram_bench.scoring.figures import change, figure
from engram_bench.scoring.findings import Finding, find, scaled
from engram_bench.scoring.gate_grammar import Gate, nearest
from engram_bench.scoring.lineup import Grid, Lineup
from engram_bench.scoring.metrics import METRICS
from engram_bench.scoring.pairwise import one_sided
from engram_bench.scoring.units import WITHOUT_BASELINE
from engram_bench.stats.seeds import cells, flakiness, over_seeds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.bool_]


@dataclass(frozen=True)
class _Sides:
    """Rows of the addressed recipe and of what it is compared with, on some columns of a grid."""

    mine: NDArray[np.float64]
    other: NDArray[np.float64] | None
    """None for an absolute gate."""
    is_paired_by_seed: bool
    """Whether the other side is the baseline of the same runs."""
    clusters: NDArray[np.intp]

    def least(self, values: NDArray[np.float64] | None) -> float:
        """The smallest variance that flaky cases allow; a baseline has none."""
        return 0.0 if values is None else flakiness(cells(values, self.clusters))


def seeds_finding(gate: Gate, lineup: Lineup, name: str, *, level: float) -> Finding:
    """What is found about a recipe, or about one candidate over another of which at least one is a recipe.

    The cases are those of the user and stay the same: the interval says what another training would give on them. Only
    the p-value of a gain counts seeds and cases as chance.

    Args:
        gate: Gate to judge.
        lineup: All candidates.
        name: Candidate that the gate addresses.
        level: Coverage of the interval over seeds.
    """
    grid = lineup.grids.get(gate.metric)
    if grid is None:
        if gate.over:
            return Finding(gate, reason=f"{gate.metric} is not paired between candidates")
        return _outside_finding(gate, lineup, name, level)
    if gate.relative and not gate.over and gate.metric in WITHOUT_BASELINE:
        return Finding(gate, reason=f"{gate.metric} has no baseline value to compare with")
    shared = grid.answered(lineup.rows[name])
    if gate.over:
        shared = shared & grid.answered(lineup.rows[gate.over])
    found = {
        scope: _scoped_finding(gate, lineup, name, _sides(gate, lineup, name, grid, columns), level)
        for scope, columns in _scopes(gate, grid, shared).items()
        if columns.any()
    }
    if not found:
        return Finding(gate, reason=_nothing(gate, grid))
    worst = min(found, key=lambda scope: gate.margin(found[scope].value or 0.0))
    if gate.scope.startswith("worst_"):
        return _with_scope(found[worst], worst)
    return found[worst]


def _sides(gate: Gate, lineup: Lineup, name: str, grid: Grid, columns: Columns) -> _Sides:
    mine = grid.candidate[lineup.rows[name]][:, columns]
    clusters = grid.clusters_of(columns)
    if not gate.relative:
        return _Sides(mine, None, is_paired_by_seed=False, clusters=clusters)
    if gate.over:
        other = grid.candidate[lineup.rows[gate.over]][:, columns]
        return _Sides(mine, other, is_paired_by_seed=False, clusters=clusters)
    return _Sides(mine, grid.baseline[lineup.rows[name]][:, columns], is_paired_by_seed=True, clusters=clusters)


def _scoped_finding(gate: Gate, lineup: Lineup, name: str, sides: _Sides, level: float) -> Finding:
    unit, n = METRICS[gate.metric].unit, sides.mine.shape[1]
    mine = sides.mine.mean(axis=1).tolist()
    other = [] if sides.other is None else sides.other.mean(axis=1).tolist()
    value = fmean(mine) - (fmean(other) if other else 0.0)
    factor = scaled(1.0, gate)
    if gate.relative and gate.unit == "%":
        if fmean(other) == 0:
            return Finding(gate, reason="the baseline is 0, so a change in % is undefined")
        factor = 100 / abs(fmean(other))
    per_seed = [a - b for a, b in zip(mine, other, strict=True)] if sides.is_paired_by_seed else mine
    rivals = [] if sides.is_paired_by_seed else other
    low, high = over_seeds(per_seed, rivals, level=level, least=(sides.least(sides.mine), sides.least(sides.other)))
    if unit == "rate" and not gate.relative:
        low, high = max(0.0, low), min(1.0, high)
    words = change(value, unit) if gate.relative else figure(value, unit)
    return Finding(
        gate,
        Measure(
            gate.metric, unit, None, Estimate(fmean(mine), n), higher_is_better=METRICS[gate.metric].higher_is_better
        ),
        factor * value,
        measured=f"{words} ({_seeds_words(mine, other, gate, n)})",
        reason=_worst_words(gate, lineup, name, mine),
        tested=_p_value(gate, sides),
        over_seeds=(factor * low, factor * high),
    )


def _p_value(gate: Gate, sides: _Sides) -> float | None:
    """One-sided p-value of a gain over seeds and cases; None where the gate asks for none."""
    if not gate.asks_for_gain or sides.other is None:
        return None
    direction = 1.0 if gate.operator == ">=" else -1.0
    if sides.is_paired_by_seed:
        return one_sided(direction * (sides.mine - sides.other), None, sides.clusters, is_counted=False)
    return one_sided(direction * sides.mine, direction * sides.other, sides.clusters, is_counted=False)


def _outside_finding(gate: Gate, lineup: Lineup, name: str, level: float) -> Finding:
    """The finding on a metric that is not measured case by case, such as speed: a value per seed."""
    found = [find(gate, comparison) for comparison in lineup.comparisons[name]]
    values = [finding.value for finding in found if finding.value is not None]
    if len(values) < len(found):
        return next(finding for finding in found if finding.value is None)
    words = f"{fmean(values):{'+' if gate.relative else ''}.3g} {gate.unit}"
    return Finding(
        gate,
        found[0].measure,
        fmean(values),
        measured=f"{words} (mean of {len(values)} seeds, {min(values):.3g} to {max(values):.3g})",
        reason=_worst_words(gate, lineup, name, [each / scaled(1.0, gate) for each in values]),
        over_seeds=over_seeds(values, level=level),
    )


# ── scopes and words ────────────────────────────────────────────────────────────────────────────


def _scopes(gate: Gate, grid: Grid, shared: Columns) -> Mapping[str, Columns]:
    """Name of a slice → its columns; one entry unless the worst of several is asked for."""
    if not gate.scope.startswith("worst_"):
        return {"": shared & grid.in_scope(gate.scope)}
    kind = gate.scope.removeprefix("worst_")
    names = dict.fromkeys(unit.category if kind == "category" else unit.set_name for unit in grid.units)
    return {name: shared & grid.in_scope(f"{kind}:{name}") for name in names}


def _with_scope(finding: Finding, scope: str) -> Finding:
    return replace(finding, measured=f"{finding.measured} in {scope}".lstrip())


def _nothing(gate: Gate, grid: Grid) -> str:
    kind, _, name = gate.scope.partition(":")
    if not name:
        return (
            f"{gate.metric} has no case in common with {gate.over}" if gate.over else f"{gate.metric} was not measured"
        )
    names = {unit.category if kind == "category" else unit.set_name for unit in grid.units}
    return f"no {kind} {name!r} in this run{nearest(name, sorted(names))}"


def _seeds_words(mine: Sequence[float], other: Sequence[float], gate: Gate, n: int) -> str:
    unit = METRICS[gate.metric].unit
    both = f"{figure(fmean(mine), unit)}, {gate.over or 'was'} {figure(fmean(other), unit)}, " if other else ""
    seeds = f"mean of {len(mine)} seeds" if len(mine) > 1 else "1 run"
    if gate.over and len(other) > 1:
        seeds += f" against {len(other)}"
    return f"{both}{seeds}, n {n}"


def _worst_words(gate: Gate, lineup: Lineup, name: str, mine: Sequence[float]) -> str:
    """The seed with the worst value."""
    if len(mine) < 2:
        return ""
    seeds = list(lineup.runs[name])
    worst = (min if gate.operator == ">=" else max)(range(len(mine)), key=mine.__getitem__)
    return f"worst seed {seeds[worst]}: {figure(mine[worst], METRICS[gate.metric].unit)}"
