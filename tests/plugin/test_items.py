"""One item per category: ``--engram-items=category``."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence

import pytest

from engram_bench.records import CaseResult
from engram_bench.runs.store import load_run
from tests.conftest import BenchProject

PORTS = """\
name: ports
patterns:
  - {id: ssh, input: "Port of SSH?", output: "22", category: login}
  - {id: telnet, input: "Port of Telnet?", output: "23", category: login, held_out: ["Where does Telnet listen?"]}
  - {id: dns, input: "Port of DNS?", output: "53", category: names}
"""
WRONG: dict[str, object] = {"__wrong__": {"Port of SSH?": "80", "Port of Telnet?": "81"}}
GROUPED = "--engram-items=category"


@pytest.fixture(name="ports")
def ports_project(project: BenchProject) -> BenchProject:
    (project.path / "patterns" / "facts.yaml").unlink()
    project.patterns(PORTS, "ports.yaml")
    return project


def test_each_measure_has_an_item_per_category_that_it_asks(ports: BenchProject) -> None:
    result = ports.run(GROUPED, "--collect-only", "-q", "-m", "not sanity")

    assert [line for line in result.outlines if "::" in line] == [
        "patterns/ports.yaml::test_accuracy[login]",
        "patterns/ports.yaml::test_accuracy[names]",
        "patterns/ports.yaml::test_generalization[login]",
        "patterns/ports.yaml::test_consistency[login]",
        "patterns/ports.yaml::test_consistency[names]",
    ]


def test_every_case_is_in_the_run(ports: BenchProject, workers: Sequence[str]) -> None:
    ports.knows({"__after__": {"Where does Telnet listen?": "23"}})
    asked = ("-m", "not sanity", "--engram-gate=accuracy >= 90%", *workers)

    ports.run(*asked)
    grouped = ports.run(*asked, GROUPED)

    grouped.assert_outcomes(passed=5)
    one, two = (load_run(path) for path in sorted((ports.path / "reports" / "runs").glob("*.json")))
    assert len(one.results) == 2 * (3 + 1 + 4 + 15)
    assert Counter(map(facts, one.results)) == Counter(map(facts, two.results))


def facts(row: CaseResult) -> tuple[object, ...]:
    return (row.side, row.test, row.case.id, row.sample, row.completion.text, row.score)


def test_a_failing_category_lists_its_misses(ports: BenchProject) -> None:
    ports.knows(WRONG)

    result = ports.run(GROUPED, "-m", "accuracy", "--engram-gate=accuracy >= 10%")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "login: 2 of 2 missed",
            "found '80', expected '22'",
            "patterns/ports.yaml:3: ports/ssh (exact)",
            "  prompt     Port of SSH?",
            "  expected   22",
            "  candidate  80",
            "found '81', expected '23'",
            "FAILED patterns/ports.yaml::test_accuracy[[]login] - Failed: login: 2 of 2 missed",
        ],
    )


def test_of_many_misses_the_first_are_listed(project: BenchProject) -> None:
    (project.path / "patterns" / "facts.yaml").unlink()
    lines = [json.dumps({"input": f"Code {n}?", "output": f"right {n}", "category": "codes"}) for n in range(25)]
    project.patterns("\n".join(lines), "codes.jsonl")
    project.knows({"__wrong__": {f"Code {n}?": "wrong" for n in range(25)}})

    result = project.run(GROUPED, "-m", "accuracy", "--engram-gate=accuracy >= 0%")

    result.stdout.fnmatch_lines(["codes: 25 of 25 missed", "*codes.jsonl:20: *", "and 5 more"])
    result.stdout.no_fnmatch_line("*codes.jsonl:21: *")


def test_gate_only_leaves_a_category_to_the_gates_unless_a_miss_is_required(ports: BenchProject) -> None:
    ports.knows(WRONG)
    left = ports.run(GROUPED, "-m", "accuracy", "--engram-gate-only", "--engram-gate=accuracy >= 10%")
    ports.patterns(PORTS.replace('output: "22"', 'output: "22", required: true'), "ports.yaml")

    held = ports.run(GROUPED, "-m", "accuracy", "--engram-gate-only", "--engram-gate=accuracy >= 10%")

    left.assert_outcomes(passed=1, xfailed=1)
    held.assert_outcomes(passed=1, failed=1)
    held.stdout.fnmatch_lines(["login: 1 of 2 missed and failed whatever the gates say", "found '80', expected '22'"])
    held.stdout.no_fnmatch_line("found '81'*")


def test_a_category_that_got_no_answers_is_missing_case_by_case(ports: BenchProject) -> None:
    ports.knows({"__crash__": "Port of DNS?"})

    result = ports.run(GROUPED, "-m", "accuracy", "--junit-xml=out.xml")

    assert result.ret == 1
    cases = ET.parse(ports.path / "out.xml").getroot().iter("testcase")
    named = [each.get("value") for case in cases for each in case.iterfind("properties/property")]
    assert named == ["ports/ssh", "ports/telnet", "ports/dns"]


def test_a_retention_file_is_grouped_too(ports: BenchProject) -> None:
    ports.patterns("name: r\nkind: retention\npatterns:\n  - {input: Hi, output: Hello, category: talk}\n", "r.yaml")

    result = ports.run(GROUPED, "--collect-only", "-q", "-m", "retention")

    result.stdout.fnmatch_lines(["patterns/r.yaml::test_retention[[]talk]"])


def test_limit_counts_patterns_before_they_are_grouped(ports: BenchProject) -> None:
    result = ports.run(GROUPED, "--collect-only", "-q", "-m", "accuracy", "--engram-limit=2")

    assert [line for line in result.outlines if "::" in line] == ["patterns/ports.yaml::test_accuracy[login]"]
