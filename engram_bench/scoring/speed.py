"""Figures of timed rounds: medians, spreads, and the paired ratio to the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from engram_bench.records import Estimate, Measure, SpeedRounds, SpeedSummary
from engram_bench.scoring.metrics import METRICS
from engram_bench.stats import bootstrap

RATIO_METRICS = {
    ("decode_speed", "fused"): "decode_speed",
    ("decode_speed", "candidate"): "attached_decode_speed",
    ("batch_throughput", "fused"): "batch_throughput",
    ("first_token", "fused"): "first_token",
    ("time_to_answer", "fused"): "time_to_answer",
    ("load_time", "candidate"): "load_time",
}
"""(test, side) → metric. An attached adapter costs time by construction, so the fused one counts as the candidate."""


def speed_measures(speed: Sequence[SpeedRounds]) -> dict[str, Measure]:
    """Every metric of ``RATIO_METRICS`` that was timed, and the peak memory, in the order of ``METRICS``.

    Throughput is that of the largest batch. Each side is compared with the baseline's rounds measured beside its own.
    """
    found = {metric: speed_measure(metric, rounds) for rounds in speed if (metric := _metric(rounds, speed))}
    memory = _memory(speed)
    found |= {memory.name: memory} if memory else {}
    return {name: found[name] for name in METRICS if name in found}


def speed_measure(metric: str, rounds: SpeedRounds) -> Measure:
    """The measure *metric* of one side's rounds against the baseline's rounds beside them.

    The ``ratio`` is the median of the paired ratios with a bootstrap interval, of speeds where the metric's unit is tok/s
    and of times otherwise. Without pairs there is neither a baseline nor a ratio.
    """
    unit = METRICS[metric].unit
    mine, other = _values(rounds, unit), _values(rounds, unit, of_baseline=True)
    return Measure(
        name=metric,
        unit=unit,
        baseline=_median(other) if other else None,
        candidate=_median(mine),
        ratio=_ratio(rounds, unit) if other else None,
        higher_is_better=METRICS[metric].higher_is_better,
        note=f"batch {rounds.batch}" if rounds.batch > 1 else "",
    )


def summarise(speed: Sequence[SpeedRounds]) -> tuple[SpeedSummary, ...]:
    """The figures of every side's rounds, in the order given."""
    return tuple(_summary(rounds, _metric(rounds, speed)) for rounds in speed)


def _summary(rounds: SpeedRounds, metric: str) -> SpeedSummary:
    import numpy as np

    p50, p90 = np.quantile(rounds.seconds, (0.5, 0.9))
    is_text = rounds.test in ("decode_speed", "batch_throughput", "time_to_answer")
    speeds = _values(rounds, "tok/s") if is_text else []
    unit = METRICS[rounds.test].unit
    return SpeedSummary(
        test=rounds.test,
        side=rounds.side,
        batch=rounds.batch,
        rounds=len(rounds.seconds),
        p50_s=float(p50),
        p90_s=float(p90),
        tok_s=_median(speeds) if speeds else None,
        tok_s_iqr=(float(np.quantile(speeds, 0.25)), float(np.quantile(speeds, 0.75))) if speeds else None,
        tokens=fmean(rounds.tokens) if rounds.tokens else 0.0,
        metric=metric,
        ratio=_ratio(rounds, unit) if rounds.baseline_s else None,
        ratios=tuple(_ratios(rounds, unit)),
        peak_memory_mb=rounds.peak_memory_mb,
        conditions=rounds.conditions,
    )


def _metric(rounds: SpeedRounds, speed: Sequence[SpeedRounds]) -> str:
    """Name of the metric of these rounds; empty for a batch that is not the largest."""
    largest = max(other.batch for other in speed if other.test == rounds.test)
    return RATIO_METRICS.get((rounds.test, rounds.side), "") if rounds.batch == largest else ""


def _values(rounds: SpeedRounds, unit: str, *, of_baseline: bool = False) -> list[float]:
    seconds = rounds.baseline_s if of_baseline else rounds.seconds
    if unit != "tok/s":
        return list(seconds)
    return [tokens / each for tokens, each in zip(rounds.tokens, seconds, strict=False)]


def _ratios(rounds: SpeedRounds, unit: str) -> list[float]:
    """Side over baseline of each pair; a timed round has as many tokens on both sides wherever its speed is computed."""
    pairs = zip(rounds.seconds, rounds.baseline_s, strict=False)  # the baseline itself has none beside it
    return [other / mine if unit == "tok/s" else mine / other for mine, other in pairs]


def _ratio(rounds: SpeedRounds, unit: str) -> Estimate:
    return _median(_ratios(rounds, unit))


def _median(values: Sequence[float]) -> Estimate:
    return Estimate(median(values), len(values), bootstrap.median_interval(values))


def _memory(speed: Sequence[SpeedRounds]) -> Measure | None:
    """Most memory in the decode rounds: the bare model against the model with its adapter."""
    peaks = {
        rounds.side: Estimate(rounds.peak_memory_mb, 1)
        for rounds in speed
        if rounds.test == "decode_speed" and rounds.peak_memory_mb is not None
    }
    if "candidate" not in peaks:
        return None
    return Measure("peak_memory", "MB", peaks.get("baseline"), peaks["candidate"], higher_is_better=False)
