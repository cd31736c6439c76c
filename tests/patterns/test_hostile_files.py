"""Pattern files that nobody wrote by hand: every mistake is named, and none costs more than its length."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engram_bench.errors import PatternFileError
from engram_bench.patterns import nodes
from engram_bench.patterns.load import load_pattern_file

NUMBER = "line 4: pattern 'port': output is 22 without quotes"


def written(tmp_path: Path, output: str) -> Path:
    """A YAML file of two patterns: the first one's output as given, the second one's a number."""
    path = tmp_path / "a.yaml"
    first = f'{{id: assign, input: "Which sign assigns in Python?", output: {output}}}'
    path.write_text(f'name: ops\npatterns:\n  - {first}\n  - {{id: port, input: "Port of SSH?", output: 22}}\n')
    return path


@pytest.mark.parametrize(
    "output",
    [
        "=",
        "<<",
        "!!bool foo",
        "!!int '-'",
        "!!timestamp foo",
        "!!float x",
        "!!seq foo",
        "!!float " + "1:" * 190 + "1.0",
    ],
)
def test_what_only_looks_like_a_value_is_text_and_the_next_mistake_is_shown(tmp_path: Path, output: str) -> None:
    with pytest.raises(PatternFileError) as caught:
        load_pattern_file(written(tmp_path, output), root=tmp_path)

    assert [mistake[: len(NUMBER)] for mistake in caught.value.mistakes] == [NUMBER]


@pytest.mark.parametrize("output", ["!!python/name:os.system x", "!!binary xx", "!own x", "!!set {a, b}", "!own [x]"])
def test_a_tag_is_a_mistake_and_the_next_one_is_shown(tmp_path: Path, output: str) -> None:
    with pytest.raises(PatternFileError) as caught:
        load_pattern_file(written(tmp_path, output), root=tmp_path)

    assert caught.value.mistakes[0].startswith("line 3: tag '")
    assert caught.value.mistakes[-1].startswith(NUMBER)


def test_a_number_of_600_000_characters_is_text(tmp_path: Path) -> None:
    path = written(tmp_path, "1:" * 300_000 + "1")  # base 60 in YAML 1.1, which costs the square of its length

    with pytest.raises(PatternFileError) as caught:
        load_pattern_file(path, root=tmp_path)

    assert len(caught.value.mistakes) == 1


def test_a_long_line_with_a_repeated_key_is_read_once(tmp_path: Path) -> None:
    keys = ", ".join(f'"{number}": 0' for number in range(80_000))
    (tmp_path / "a.jsonl").write_text(f'{{{keys}, "79999": 1}}\n')

    with pytest.raises(PatternFileError, match="line 1: not JSON: key '79999' is repeated"):
        load_pattern_file(tmp_path / "a.jsonl", root=tmp_path)


@pytest.mark.parametrize(
    ("line", "found"),
    [("[" * 17 + "]" * 17, "nested deeper than 16 levels"), ("[" * 90_000, "nested"), ("9" * 5000, "5000 digits")],
)
def test_json_beyond_the_bounds_is_one_mistake_of_its_line(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n" + json.dumps({"input": "Q?", "output": 22}) + "\n")

    with pytest.raises(PatternFileError, match=found) as caught:
        load_pattern_file(tmp_path / "a.jsonl", root=tmp_path)

    assert caught.value.mistakes[1].startswith("line 2: pattern 'Q?': output is 22")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["a.yaml", "a.jsonl"])
def test_a_named_pipe_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)

    with pytest.raises(PatternFileError, match="a named pipe, expected a regular file"):
        load_pattern_file(tmp_path / name, root=tmp_path)


def test_a_yaml_file_of_too_many_values_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "MAX_EVENTS", 1000)
    (tmp_path / "a.yaml").write_text("name: a\npatterns: [" + "a," * 1000 + "]\n")

    with pytest.raises(PatternFileError, match=r"line 2: more than 1,000 values: write large sets as \.jsonl"):
        load_pattern_file(tmp_path / "a.yaml", root=tmp_path)
