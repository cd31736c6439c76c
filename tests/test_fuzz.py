"""A small, seeded sample of ``benchmarks/fuzz.py``: no changed file ends in a raw traceback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzz_targets import TARGETS, Target, try_one

SAMPLE = range(30)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_changed_file_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    TARGETS[kind].make(whole)

    outcomes = {number: try_one(kind, number, 0, whole, tmp_path / "input") for number in SAMPLE}

    assert {number: each.reason for number, each in outcomes.items() if each.verdict == "fault"} == {}


def test_a_fault_is_counted_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(folder: Path) -> None:
        raise KeyError("x")

    monkeypatch.setitem(TARGETS, "runs", Target("runs", lambda folder: None, lambda *_: None, use))

    outcome = try_one("runs", 0, 0, tmp_path, tmp_path / "input")

    assert outcome.verdict == "fault"
    assert re.fullmatch(r"KeyError at test_fuzz\.py:\d+: 'x'", outcome.reason)


def test_a_tally_keeps_the_slowest_and_the_first_of_a_kind() -> None:
    tally = fuzz.Tally()
    tally.add(3, "fault", "KeyError", 0.5, 9.0)
    tally.add(4, "fault", "KeyError", 0.1, 1.0)
    tally.add(5, "read", "", 0.2, 20.0)

    assert (tally.counts["fault"], tally.first, tally.slowest, tally.largest) == (
        2,
        {"KeyError": 3},
        (0.5, 3),
        (20.0, 5),
    )
