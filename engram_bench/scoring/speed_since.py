"""Change of speed between two runs, each measured against its own baseline, which is the yardstick that both runs share.

Times of two days differ by more than any change worth finding, even on one machine. The paired ratios do not: whatever
slows the bare model down slows the candidate beside it too. The newer ratio over the older one is therefore the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from engram_bench.records import Estimate, Measure, Run
from engram_bench.scoring.speed import speed_measures, summarise
from engram_bench.stats import bootstrap

SAME = ("machine", "model_fingerprint", "backend", "device", "dtype")
"""Fields of the provenance that two runs must share for their ratios to be comparable."""


def differences(old: Run, new: Run) -> tuple[str, ...]:
    """Names of the fields in ``SAME`` that differ between the two runs."""
    return tuple(name for name in SAME if getattr(old.provenance, name) != getattr(new.provenance, name))


def speed_since(old: Run, new: Run) -> list[Measure]:
    """Every paired speed metric of both runs, the older run's side as baseline and the newer one's as candidate.

    The ``ratio`` is the newer paired ratio over the older one, with a bootstrap interval. Runs that differ in machine,
    model, backend, device or dtype get neither values nor a ratio, but a note that they are not comparable.
    """
    before, after = _ratios(old), _ratios(new)
    names = [name for name in after if name in before]
    others = differences(old, new)
    if others:
        words = ", ".join(name.removesuffix("_fingerprint") for name in others)
        return [_not_comparable(new, name, f"not comparable: another {words}") for name in names]
    old_measures, new_measures = speed_measures(old.speed), speed_measures(new.speed)
    return [
        Measure(
            name=name,
            unit=new_measures[name].unit,
            baseline=old_measures[name].candidate,
            candidate=new_measures[name].candidate,
            ratio=_change(before[name], after[name]),
            higher_is_better=new_measures[name].higher_is_better,
            note="each against its own baseline",
        )
        for name in names
    ]


def _ratios(run: Run) -> dict[str, Sequence[float]]:
    return {summary.metric: summary.ratios for summary in summarise(run.speed) if summary.metric and summary.ratios}


def _change(before: Sequence[float], after: Sequence[float]) -> Estimate:
    interval = bootstrap.median_change_interval(before, after)
    return Estimate(median(after) / median(before), min(len(before), len(after)), interval)


def _not_comparable(run: Run, name: str, note: str) -> Measure:
    measure = speed_measures(run.speed)[name]
    return Measure(name, measure.unit, None, None, higher_is_better=measure.higher_is_better, note=note)
