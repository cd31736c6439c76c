"""Seeds: the mean of a recipe over its trainings, how far the trainings differ, and how much of that is chance."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from engram_bench.records import Estimate
from engram_bench.records.candidates import SeedSpread
from engram_bench.scoring.lineup import Lineup
from engram_bench.scoring.metrics import METRICS
from engram_bench.stats import seeds


def mean_over_seeds(lineup: Lineup, name: str, metric: str, values: Sequence[Estimate]) -> Estimate:
    """The mean over seeds with an interval over seeds and cases; over seeds alone for a metric without paired cases.

    Args:
        lineup: All candidates.
        name: A recipe with several seeds.
        metric: A metric that every seed has.
        values: Value of each seed.
    """
    mean, n = fmean(value.value for value in values), min(value.n for value in values)
    crossed = _crossed(lineup, name, metric)
    if crossed is None:
        return Estimate(mean, n, _possible(metric, seeds.over_seeds([value.value for value in values])))
    low, high = crossed.interval()
    return Estimate(mean, n, _possible(metric, (low, high)))


def _possible(metric: str, interval: tuple[float, float]) -> tuple[float, float]:
    """The part of an interval in which the metric can be: a rate is in 0..1."""
    low, high = interval
    return (max(0.0, low), min(1.0, high)) if METRICS[metric].unit == "rate" else interval


def spread(lineup: Lineup, name: str, metric: str) -> SeedSpread:
    """The spread of a metric over the seeds of a recipe.

    Args:
        lineup: All candidates.
        name: A candidate with several seeds.
        metric: A metric that every seed has.

    Raises:
        UsageError: The candidate has one seed.

    Source: see :mod:`engram_bench.stats.seeds`.
    """
    lineup.check_spread(name)
    found = [comparison.measures[metric].candidate for comparison in lineup.comparisons[name]]
    values = {seed: value.value for seed, value in zip(lineup.runs[name], found, strict=True) if value is not None}
    worst = min if METRICS[metric].higher_is_better else max
    cells, crossed = _cells(lineup, name, metric), _crossed(lineup, name, metric)
    least = 0.0 if cells is None else seeds.flakiness(cells)
    variance = crossed.error**2 if crossed else 0.0
    return SeedSpread(
        name=name,
        metric=metric,
        values=values,
        mean=fmean(values.values()),
        sd=stdev(values.values()),
        low=min(values.values()),
        high=max(values.values()),
        worst_seed=worst(values, key=values.__getitem__),
        interval=_possible(metric, seeds.over_seeds(list(values.values()), least=(least, 0.0))),
        seeds_share=crossed.seeds_error**2 / variance if crossed and variance else None,
        answer_shares=_answer_shares(lineup, name, metric),
    )


def _cells(lineup: Lineup, name: str, metric: str) -> seeds.Cells | None:
    """Values of a recipe by seed and pattern; None for fewer than two patterns that every seed answers."""
    if metric not in lineup.grids:
        return None
    grid = lineup.grids[metric]
    columns = grid.answered(lineup.rows[name])
    clusters = grid.clusters_of(columns)
    if len(set(clusters.tolist())) < 2:
        return None
    return seeds.cells(grid.candidate[lineup.rows[name]][:, columns], clusters)


def _crossed(lineup: Lineup, name: str, metric: str) -> seeds.Difference | None:
    cells = _cells(lineup, name, metric)
    return None if cells is None else seeds.difference(cells)


def _answer_shares(lineup: Lineup, name: str, metric: str) -> tuple[float, float, float] | None:
    cells = _cells(lineup, name, metric)
    if cells is None:
        return None
    found = seeds.components(cells)
    return found.seeds, found.cases, found.both
