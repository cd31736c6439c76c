import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from engram_bench.errors import PatternFileError
from engram_bench.patterns.load import check_across, find_pattern_files, load_pattern_file, load_pattern_files
from engram_bench.records import PatternSet, SourceLine, SpeedPlan

MATCHERS = ("contains", "exact", "json", "number", "python", "strict")
FACTS = """\
name: http_status
description: Status codes.
version: "1.1"
match: number
system: Answer in one word.
max_tokens: 8
min_consistency: 0.5
patterns:
  - id: not-found
    input: "HTTP status code for 'Not Found'?"
    output: "404"
    accept: ["404 Not Found"]
    category: http_codes
    wordings: ["Which status means 'Not Found'?"]
    held_out:
      - What HTTP code says a page is missing?
    match: exact
    max_tokens: 16
    required: true
    min_consistency: 0.9
    system: Be brief.
  - input: Default port of SSH?
    output: "22"
"""


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "facts.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def pattern_file(entries: str, *, header: str = "name: facts", name: str = "facts.yaml") -> Path:
    """A YAML file whose patterns begin on line 3."""
    return write(f"{header}\npatterns:\n{textwrap.indent(textwrap.dedent(entries).strip(), '  ')}\n", name)


def json_lines(*rows: Any, name: str = "facts.jsonl") -> Path:
    return write("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), name)


def mistakes(path: Path) -> tuple[str, ...]:
    with pytest.raises(PatternFileError, match=path.name) as caught:
        load_pattern_file(path, known_matchers=MATCHERS)
    return caught.value.mistakes


def test_a_pattern_keeps_what_it_says_and_takes_the_rest_from_its_file() -> None:
    named, plain = load_pattern_file(write(FACTS), known_matchers=MATCHERS).patterns

    assert (named.id, named.input, named.answers) == (
        "not-found",
        "HTTP status code for 'Not Found'?",
        ("404", "404 Not Found"),
    )
    assert (named.wordings, named.held_out) == (
        ("Which status means 'Not Found'?",),
        ("What HTTP code says a page is missing?",),
    )
    assert (named.category, named.match, named.max_tokens) == ("http_codes", "exact", 16)
    assert (named.required, named.min_consistency, named.system) == (True, 0.9, "Be brief.")
    assert (plain.id, plain.category, plain.match) == (
        "http-status-default-port-of-ssh",
        "http_status",
        "number",
    )
    assert (plain.max_tokens, plain.min_consistency, plain.system) == (8, 0.5, "Answer in one word.")
    assert (named.source, plain.source) == (SourceLine("facts.yaml", 9), SourceLine("facts.yaml", 22))
