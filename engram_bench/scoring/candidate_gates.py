"""Gates on a candidate set: which candidate a gate addresses, what it is compared with, and whether it holds over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engram_bench.records import Comparison, Measure, Verdict, VerdictOutcome
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.findings import Finding, find, verdict
from engram_bench.scoring.gate_grammar import BEST, EVERY, Gate, check_candidates
from engram_bench.scoring.lineup import Grid, Lineup, Runs
from engram_bench.scoring.metrics import METRICS
from engram_bench.scoring.pairs import mean, rate
from engram_bench.scoring.pairwise import one_sided
from engram_bench.scoring.seed_gates import seeds_finding
from engram_bench.scoring.units import COUNTED
from engram_bench.stats.rates import holm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEVERITY: tuple[VerdictOutcome, ...] = ("fail", "insufficient", "not_measured", "pass")
"""Outcomes from the worst to the best: the verdict on ``every`` is the worst of all candidates."""


def judge_candidates(
    gates: Sequence[Gate], candidates: Mapping[str, Runs] | Lineup, *, alpha: float = 0.05
) -> tuple[Verdict, ...]:
    """One verdict per gate, in order.

    * A gate on a candidate with one run is judged as in a session of its own (:func:`engram_bench.scoring.gates.judge`).
    * ``over NAME`` is judged on the cases that both candidates have, with the other candidate in the baseline's part and
      the paired test of a candidate set.
    * A gate on a recipe with several seeds is judged on the mean. It passes only if the interval of the mean over seeds
      meets the bound, on the same cases; a gain must also be more than chance over seeds and cases.
    * ``best`` is the candidate with the best value. Its p-value and its interval over seeds are adjusted for the choice
      (Bonferroni).
    * ``every``, and a gate that addresses no candidate, has the worst verdict of all candidates.

    Holm's method adjusts the p-values over all gates judged here.

    Args:
        gates: Gates to judge.
        candidates: Name → its run, or its runs by seed; or these candidates lined up.
        alpha: Level of the tests, above 0 and below 1; intervals over seeds cover 1 - *alpha*.

    Raises:
        UsageError: A gate names an unknown candidate, or one candidate twice.
    """
    lineup = candidates if isinstance(candidates, Lineup) else Lineup(candidates)
    check_candidates(gates, lineup.runs)
    found = [_findings(gate, lineup, alpha) for gate in gates]
    raw = [max((p for finding in each.values() if (p := finding.p_value) is not None), default=None) for each in found]
    adjusted = iter(holm([p for p in raw if p is not None]))
    return tuple(
        _verdict(each, p, None if p is None else next(adjusted), alpha) for each, p in zip(found, raw, strict=True)
    )


def _verdict(found: Mapping[str, Finding], raw: float | None, adjusted: float | None, alpha: float) -> Verdict:
    """The worst verdict of the candidates that a gate addresses."""
    factor = adjusted / raw if raw and adjusted is not None else 1.0
    verdicts = {
        name: verdict(finding, None if (p := finding.p_value) is None else min(1.0, p * factor), alpha)
        for name, finding in found.items()
    }
    margins = {name: f.gate.margin(f.value) if f.value is not None else 0.0 for name, f in found.items()}
    name = min(verdicts, key=lambda each: (SEVERITY.index(verdicts[each].outcome), margins[each]))
    worst, gate = verdicts[name], found[name].gate
    if gate.candidate == name or (len(found) == 1 and not gate.candidate):
        return worst
    passed = sum(each.outcome == "pass" for each in verdicts.values())
    tally = f"{passed} of {len(verdicts)} candidates pass" if 0 < passed < len(verdicts) else ""
    return replace(
        worst, measured=f"{worst.measured} in {name}".lstrip(), reason="; ".join(filter(None, (worst.reason, tally)))
    )


def _findings(gate: Gate, lineup: Lineup, alpha: float) -> dict[str, Finding]:
    """Candidate that the gate addresses → what is found about it; several for ``every``."""
    addressed = gate.candidate if gate.candidate not in ("", BEST, EVERY) else ""
    names = [addressed] if addressed else [name for name in lineup.runs if name != gate.over]
    if not names:
        return {gate.over: Finding(gate, reason=f"no candidate besides {gate.over!r}")}
    if gate.candidate != BEST:
        return {name: _finding(gate, lineup, name, level=1 - alpha) for name in names}
    found = {name: _finding(gate, lineup, name, level=1 - alpha / len(names)) for name in names}
    having = [name for name in names if found[name].value is not None] or names
    best = max(having, key=lambda name: gate.margin(found[name].value or 0.0))
    p_value = found[best].p_value
    return {best: replace(found[best], tested=None if p_value is None else min(1.0, p_value * len(names)))}


def _finding(gate: Gate, lineup: Lineup, name: str, *, level: float) -> Finding:
    if lineup.is_recipe(name) or (gate.over and lineup.is_recipe(gate.over)):
        return seeds_finding(gate, lineup, name, level=level)
    if not gate.over:
        (run,) = lineup.runs[name].values()
        return find(gate, compare(run) if gate.scope else lineup.comparisons[name][0])
    grid = lineup.grids.get(gate.metric)
    if grid is None:
        return Finding(gate, reason=f"{gate.metric} is not paired between candidates")
    shared = grid.answered(lineup.rows[name]) & grid.answered(lineup.rows[gate.over])
    if not shared.any():
        return Finding(gate, reason=f"{gate.metric} has no case in common with {gate.over}")
    sides = (lineup.rows[gate.over], lineup.rows[name])
    return _paired_finding(gate, grid, sides, shared)


def _paired_finding(gate: Gate, grid: Grid, sides: tuple[slice, slice], shared: NDArray[np.bool_]) -> Finding:
    """The finding on the single runs of two candidates, the other one's rows first."""
    slices = {
        scope: _measure(grid, sides, shared & grid.in_scope(scope))
        for scope in (_scopes(grid, shared) if gate.scope else ())
    }
    comparison = Comparison(
        measures=_named(_measure(grid, sides, shared)),
        slices={scope: _named(measure) for scope, measure in slices.items()},
        ledger=(),
    )
    found = find(gate, comparison)
    scope = next((scope for scope, measure in slices.items() if measure is found.measure), "")
    if not gate.asks_for_gain or found.value is None:
        return found
    columns = shared & grid.in_scope(scope)
    direction = 1.0 if gate.operator == ">=" else -1.0
    other, mine = (direction * grid.candidate[side][:, columns] for side in sides)
    return replace(
        found,
        tested=one_sided(mine, other, grid.clusters_of(columns), is_counted=gate.metric in COUNTED),
    )


def _scopes(grid: Grid, columns: NDArray[np.bool_]) -> Iterator[str]:
    """Every category and file among these columns."""
    units = [unit for unit, is_shared in zip(grid.units, columns.tolist(), strict=True) if is_shared]
    yield from dict.fromkeys(f"category:{unit.category}" for unit in units)
    yield from dict.fromkeys(f"file:{unit.set_name}" for unit in units)


def _measure(grid: Grid, sides: tuple[slice, slice], columns: NDArray[np.bool_]) -> Measure | None:
    """Both candidates on these columns, in the form of a comparison."""
    metric = METRICS[grid.metric]
    patterns = [unit.pattern for unit, is_in in zip(grid.units, columns.tolist(), strict=True) if is_in]
    other, mine = (grid.candidate[side][0, columns].tolist() for side in sides)
    if grid.metric in COUNTED:
        outcomes = [(before == 1.0, after == 1.0) for before, after in zip(other, mine, strict=True)]
        return rate(metric, outcomes, patterns)
    return mean(metric, list(zip(other, mine, strict=True)), patterns)


def _named(measure: Measure | None) -> dict[str, Measure]:
    return {} if measure is None else {measure.name: measure}
