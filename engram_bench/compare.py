"""Two sides of a run, or two runs, aligned case by case."""

from __future__ import annotations

from engram_bench.records import Comparison, Run


def compare(run: Run) -> Comparison:
    """Baseline against candidate of one run."""
    raise NotImplementedError


def compare_runs(old: Run, new: Run) -> Comparison:
    """The older run's candidate (as baseline) against the newer run's."""
    raise NotImplementedError
