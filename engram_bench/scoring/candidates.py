"""Candidates compared with each other: figures, paired tests of every two, ranks, the Pareto set, seeds and cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean

from engram_bench.records import Estimate
from engram_bench.records.candidates import Candidate, CandidatePair, CandidateSet
from engram_bench.scoring.all_cases import all_cases, flaky_cases, unpaired_cases
from engram_bench.scoring.lineup import Grid, Lineup, Runs
from engram_bench.scoring.metrics import METRICS
from engram_bench.scoring.pairwise import Family, family
from engram_bench.scoring.ranks import pareto_set, ranks
from engram_bench.scoring.spread import mean_over_seeds, spread
from engram_bench.scoring.units import COUNTED

ALPHA = 0.05
"""Level of the tests: the chance of even one false "better" among all pairs of a metric."""
TRAIN_S = "train_s"
"""Name of the training seconds among the axes of the Pareto set."""
PARETO = ("generalization", "retention", TRAIN_S)
"""Axes of the Pareto set."""


def candidate_set(candidates: Mapping[str, Runs] | Lineup, *, alpha: float = ALPHA) -> CandidateSet:
    """The candidates compared with each other on the cases that they share.

    Two candidates are tested on the units that both have, a case with another prompt, answers or matcher being another
    case; ``Candidate.unpaired`` names the others. The p-values of all pairs of one metric are adjusted by Holm's method.
    A candidate is really better where its adjusted p-value is at most *alpha*.

    Args:
        candidates: Name → its run, or its runs by seed; or these candidates lined up.
        alpha: Level of the tests, above 0 and below 1.

    Raises:
        UsageError: There is no candidate, or a candidate without a run.

    Source: Holm (1979), Scand. J. Stat. 6, 65-70; tests as :mod:`engram_bench.scoring.pairwise` names them.
    """
    lineup = candidates if isinstance(candidates, Lineup) else Lineup(candidates)
    found = tuple(_candidate(lineup, name, unpaired) for name, unpaired in unpaired_cases(lineup).items())
    families = {metric: _family(lineup, metric) for metric in METRICS if metric in lineup.grids}
    values = {axis: {each.name: _axis(each, axis) for each in found} for axis in PARETO}
    return CandidateSet(
        candidates=found,
        alpha=alpha,
        pairs=tuple(pair for metric, each in families.items() for pair in _pairs(lineup, metric, each, alpha)),
        ranks={metric: _ranks(lineup, metric, each, alpha) for metric, each in families.items() if len(each.pairs) > 0},
        pareto=pareto_set(values, lower_is_better=(TRAIN_S,)) if len(found) > 1 else None,
        spreads=tuple(
            spread(lineup, each.name, metric) for each in found if each.is_recipe for metric in each.measures
        ),
        flaky=tuple(flaky_cases(lineup)),
        cases=tuple(all_cases(lineup)),
    )


def _candidate(lineup: Lineup, name: str, unpaired: tuple[str, ...]) -> Candidate:
    by_seed, comparisons = lineup.runs[name], lineup.comparisons[name]
    first = next(iter(by_seed.values())).provenance
    trainings = [run.training for run in by_seed.values()]
    seconds = [training.seconds for training in trainings if training is not None]
    return Candidate(
        name=name,
        runs=tuple(run.name for run in by_seed.values()),
        seeds=tuple(by_seed),
        model=first.model,
        backend=first.backend,
        adapter=first.adapter,
        measures=dict(_measures(lineup, name)),
        train_s=fmean(seconds) if len(seconds) == len(trainings) else (None if first.adapter else 0.0),
        unpaired=unpaired,
        unscored=tuple(sorted({case_id for comparison in comparisons for case_id in comparison.unscored})),
    )


def _measures(lineup: Lineup, name: str) -> Iterator[tuple[str, Estimate]]:
    """Metric → value of a candidate, of those that every seed has."""
    for metric in METRICS:
        measures = [comparison.measures.get(metric) for comparison in lineup.comparisons[name]]
        values = [measure.candidate for measure in measures if measure is not None and measure.candidate is not None]
        if len(values) == len(measures):
            yield metric, values[0] if len(values) == 1 else mean_over_seeds(lineup, name, metric, values)


def _axis(candidate: Candidate, axis: str) -> float | None:
    if axis == TRAIN_S:
        return candidate.train_s
    return candidate.measures[axis].value if axis in candidate.measures else None


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────


def _family(lineup: Lineup, metric: str) -> Family:
    grid = lineup.grids[metric]
    sides = [grid.candidate[rows] for rows in lineup.rows.values()]
    return family(sides, grid.clusters, is_counted=metric in COUNTED)


def _pairs(lineup: Lineup, metric: str, found: Family, alpha: float) -> Iterator[CandidatePair]:
    names, grid = list(lineup.rows), lineup.grids[metric]
    better = _really_better(names, metric, found, alpha)
    is_higher = METRICS[metric].higher_is_better
    for (one, other), result, adjusted in zip(found.pairs, found.tested, found.adjusted, strict=True):
        first, second = names[one], names[other]
        yield CandidatePair(
            metric=metric,
            first=first,
            second=second,
            difference=Estimate(result.difference, result.n, result.interval),
            better=result.better if is_higher else result.worse,
            worse=result.worse if is_higher else result.better,
            unpaired=_num_unpaired(grid, lineup.rows[first], lineup.rows[second]),
            test=result.test,
            p_value=result.p_value,
            adjusted=adjusted,
            outcome="better"
            if (first, second) in better
            else "worse"
            if (second, first) in better
            else "no_difference",
        )


def _ranks(lineup: Lineup, metric: str, found: Family, alpha: float) -> dict[str, str]:
    """The ranks of the candidates that have the metric."""
    names = list(lineup.rows)
    having = [name for number, name in enumerate(names) if any(number in pair for pair in found.pairs)]
    return ranks(having, _really_better(names, metric, found, alpha))


def _really_better(names: list[str], metric: str, found: Family, alpha: float) -> set[tuple[str, str]]:
    """(first, second) where the first is really better, which for some metrics is lower."""
    larger = found.better(alpha)
    is_higher = METRICS[metric].higher_is_better
    return {(names[one], names[other]) if is_higher else (names[other], names[one]) for one, other in larger}


def _num_unpaired(grid: Grid, first: slice, second: slice) -> int:
    return int((grid.answered(first) ^ grid.answered(second)).sum())
