"""The shipped control set."""

from __future__ import annotations

from pathlib import Path

from engram_bench.patterns.load import load_pattern_file
from engram_bench.records import PatternSet

CONTROLS = Path(__file__).parents[2] / "patterns" / "controls.yaml"


def controls() -> PatternSet:
    return load_pattern_file(CONTROLS)


def test_enough_controls_have_an_answer_to_lose() -> None:
    patterns = controls().patterns

    assert len(patterns) >= 44
    assert sum(bool(pattern.output) for pattern in patterns) >= 34


def test_answers_are_found_inside_a_sentence() -> None:
    assert {pattern.match for pattern in controls().patterns if pattern.output} == {"contains"}
