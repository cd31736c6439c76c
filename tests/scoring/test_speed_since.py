from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engram_bench.records import Measure, Run, SpeedRounds
from engram_bench.reporting.changes import change_lines
from engram_bench.scoring.comparison import compare_runs
from tests.made_up import PROVENANCE


def run_of(fused_s: float, baseline_s: float, **provenance: Any) -> Run:
    """A run whose rounds all take these seconds."""
    rounds = SpeedRounds("decode_speed", "fused", (fused_s,) * 8, (16,) * 8, (baseline_s,) * 8)
    return Run("", replace(PROVENANCE, **provenance), speed=(rounds,))


def decode_speed(old: Run, new: Run) -> Measure:
    return compare_runs(old, new).measures["decode_speed"]


def test_a_slower_day_is_no_regression() -> None:
    measure = decode_speed(run_of(1.0, 1.0), run_of(1.5, 1.5))

    assert measure.ratio is not None
    assert (measure.ratio.value, measure.ratio.interval) == (1.0, (1.0, 1.0))


def test_a_candidate_that_lost_against_its_own_baseline_is_one() -> None:
    measure = decode_speed(run_of(1.0, 1.0), run_of(1.25, 1.0))

    assert measure.ratio is not None
    assert measure.ratio.value == 0.8


def test_both_runs_stand_side_by_side_in_tokens_a_second() -> None:
    measure = decode_speed(run_of(1.0, 1.0), run_of(2.0, 1.0))

    assert measure.baseline is not None
    assert measure.candidate is not None
    assert (measure.baseline.value, measure.candidate.value) == (16.0, 8.0)


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("machine", "machine"),
        ("model_fingerprint", "model"),
        ("backend", "backend"),
        ("device", "device"),
        ("dtype", "dtype"),
    ],
)
def test_runs_of_another_kind_get_no_number(field: str, word: str) -> None:
    measure = decode_speed(run_of(1.0, 1.0), run_of(1.0, 1.0, **{field: "another"}))

    assert (measure.baseline, measure.candidate, measure.ratio) == (None, None, None)
    assert measure.note == f"not comparable: another {word}"


def test_what_only_one_run_timed_is_left_out() -> None:
    assert compare_runs(Run("", PROVENANCE), run_of(1.0, 1.0)).measures == {}


def test_the_change_is_printed() -> None:
    old, new = run_of(1.0, 1.0), run_of(1.25, 1.0)

    (line,) = [line for line in change_lines(old, new, compare_runs(old, new)) if line.startswith("decode_speed")]

    assert "-20.0 %" in line


def test_what_cannot_be_compared_is_printed_without_a_number() -> None:
    old, new = run_of(1.0, 1.0), run_of(1.25, 1.0, dtype="float32")

    (line,) = [line for line in change_lines(old, new, compare_runs(old, new)) if line.startswith("decode_speed")]

    assert "not comparable: another dtype" in line
    assert "%" not in line
