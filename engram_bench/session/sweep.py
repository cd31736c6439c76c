"""A sweep over an adapter's checkpoints: how much each has learned and forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engram_bench.adapters import store as adapter_store
from engram_bench.errors import AdapterError
from engram_bench.records import CaseResult, Run, SweepPoint
from engram_bench.scoring.comparison import compare

if TYPE_CHECKING:
    from engram_bench.adapters.store import Adapter

SWEPT = ("accuracy", "generalization", "retention")
"""Tests whose questions are put to every checkpoint."""


def sweep(
    adapter: Adapter, baseline: Sequence[CaseResult], answer: Callable[[Adapter], Sequence[CaseResult]], run: Run
) -> tuple[SweepPoint, ...]:
    """One point per stored checkpoint in order of training, the finished adapter last.

    Args:
        adapter: Finished adapter, with its checkpoints below its folder.
        baseline: Results of the baseline to the questions of ``SWEPT``.
        answer: Callable that gives the results of a checkpoint to the same questions.
        run: A run with the session's provenance.

    Raises:
        AdapterError: The adapter kept no checkpoints.
    """
    training = adapter.manifest.training
    if training is None or not training.checkpoints:
        msg = f"{adapter.path}: no checkpoints, expected some: train with --engram-sweep"
        raise AdapterError(msg)
    steps = {name: int(name.rpartition("-")[2]) for name in training.checkpoints}
    found = {name: adapter_store.load(adapter.path / name) for name, step in steps.items() if step != training.steps}
    found["."] = adapter
    return tuple(
        _point(name, steps.get(name, training.steps), replace(run, results=(*baseline, *answer(checkpoint))))
        for name, checkpoint in found.items()
    )


def _point(name: str, step: int, run: Run) -> SweepPoint:
    measures = compare(run).measures
    rates = {metric: measures[metric].candidate for metric in SWEPT if metric in measures}
    return SweepPoint(name, step, rates.get("accuracy"), rates.get("generalization"), rates.get("retention"))
