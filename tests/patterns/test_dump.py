from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from engram_bench.patterns.dump import jsonl_text, yaml_text
from engram_bench.patterns.load import load_pattern_file
from engram_bench.records import Pattern, PatternSet, SourceLine, SpeedPlan
from tests.patterns.strategies import pattern_sets


def without_lines(pattern_set: PatternSet) -> PatternSet:
    """The set as if it stood nowhere."""
    patterns = tuple(replace(pattern, source=SourceLine("", 0)) for pattern in pattern_set.patterns)
    return replace(pattern_set, path="", patterns=patterns)


@pytest.mark.parametrize(("dump", "suffix"), [(yaml_text, "yaml"), (jsonl_text, "jsonl")], ids=["yaml", "jsonl"])
@given(pattern_set=pattern_sets())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_dumped_set_loads_as_it_was(
    pattern_set: PatternSet, dump: Callable[[PatternSet], str], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"facts.{suffix}"
    path.write_text(dump(pattern_set), "utf-8", newline="\n")

    assert without_lines(load_pattern_file(path)) == without_lines(pattern_set)


@pytest.mark.parametrize(("dump", "suffix"), [(yaml_text, "yaml"), (jsonl_text, "jsonl")], ids=["yaml", "jsonl"])
@pytest.mark.parametrize(
    "pattern_set",
    [
        PatternSet("speed", "", "speed", speed=SpeedPlan(("a", "b"), rounds=2)),
        PatternSet("controls", "", "retention", patterns=(Pattern("hi", "Hi!", "", "talk", SourceLine("", 0)),)),
    ],
    ids=["speed", "retention"],
)
def test_other_kinds_load_as_they_were(
    pattern_set: PatternSet, dump: Callable[[PatternSet], str], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"facts.{suffix}"
    path.write_text(dump(pattern_set), "utf-8")

    assert without_lines(load_pattern_file(path)) == pattern_set


def test_a_dump_says_only_what_is_no_default() -> None:
    pattern = Pattern("ssh", "Port of SSH?", "22", "ports", SourceLine("", 0), accept=("22/tcp",))

    assert yaml_text(PatternSet("facts", "", patterns=(pattern,))) == (
        "name: facts\ndescription: ''\nversion: '1.0'\nkind: memory\npatterns:\n"
        "- id: ssh\n  input: Port of SSH?\n  output: '22'\n  category: ports\n  accept:\n  - 22/tcp\n"
    )
