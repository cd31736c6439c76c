"""JUnit properties, GitHub's job summary and annotations, pytest-html: by running sessions with the variables set."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.conftest import BenchProject

ROOT = Path(__file__).parents[2]

BROKEN: dict[str, object] = {"Port of SSH?": "22", "__wrong__": {"Port of SSH?": "80"}}
"""The bare model knows the port, the tuned one learned it wrongly: line 8 of the pattern file."""


@pytest.fixture(autouse=True)
def _outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


def properties(element: ET.Element | None) -> dict[str, str]:
    assert element is not None
    return {each.get("name", ""): each.get("value", "") for each in element.iterfind("properties/property")}


def test_junit_cases_carry_answers_place_and_state(project: BenchProject, workers: Sequence[str]) -> None:
    project.knows({**BROKEN, "HTTP status code for 'Not Found'?": "\x1b[2J"})

    project.run("--junit-xml=out.xml", *workers)

    suite = ET.parse(project.path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    cases = {case.get("name"): properties(case) for case in suite.iterfind("testcase")}
    assert cases["test_accuracy[port-ssh]"] == {
        "engram_case": "facts/port-ssh",
        "engram_category": "ports",
        "engram_split": "seen",
        "engram_source": "patterns/facts.yaml:8",
        "engram_expected": "22",
        "engram_baseline": "22",
        "engram_candidate": "80",
        "engram_state": "broken",
    }
    assert cases["test_accuracy[http-404]"]["engram_baseline"] == r"\x1b[2J"


def test_junit_session_carries_figures_and_verdicts(project: BenchProject) -> None:
    project.run("--junit-xml=out.xml", "-m", "accuracy", "--engram-gate=accuracy >= 90%")

    found = properties(ET.parse(project.path / "out.xml").getroot().find("testsuite"))
    assert found["engram_backend"].startswith("fake")
    assert (found["engram_accuracy_baseline"], found["engram_accuracy_candidate"]) == ("0", "1")
    assert found["engram_gate"] == "accuracy >= 90%: passed, 100.0 % (2 of 2)"


def test_job_summary_is_appended(project: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.knows(BROKEN)
    summary = project.path / "summary.md"
    summary.write_text("# before\n", "utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    project.run()

    text = summary.read_text("utf-8")
    assert text.startswith("# before\n# engram-bench: ")
    assert "## Broken: seen prompts (1)" in text
    assert "## Fixed" not in text


def test_a_summary_that_cannot_be_written_is_said_and_fails_nothing(
    project: BenchProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "missing" / "summary.md"))

    result = project.run("-m", "accuracy", "--engram-gate=accuracy >= 90%")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["GITHUB_STEP_SUMMARY: *job summary not written: No such file*"])


def test_broken_case_is_annotated_on_its_line(
    project: BenchProject, monkeypatch: pytest.MonkeyPatch, workers: Sequence[str]
) -> None:
    project.knows(BROKEN)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))

    result = project.run("-m", "accuracy", *workers)

    place = f"{project.path.name}/patterns/facts.yaml"
    assert [line for line in result.outlines if line.startswith("::error file")] == [
        f"::error file={place},line=8,title=broken%3A facts/port-ssh::"
        "expected '22', baseline said '22', candidate says '80'"
    ]
    assert [line for line in result.outlines if line.startswith("::error title")] == [
        "::error title=engram-bench::gate failed: accuracy +0.0 pp (1 of 2, was 1 of 2), wanted at least +10 pp"
    ]


def test_no_command_is_printed_elsewhere(project: BenchProject) -> None:
    project.knows(BROKEN)

    assert "::error" not in project.run().stdout.str()


def test_pytest_html_rows_show_both_answers_as_text(project: BenchProject) -> None:
    pytest.importorskip("pytest_html")
    project.knows({"Port of SSH?": "<script>alert(1)</script>"})

    project.run("--html=page.html", "--self-contained-html", "-m", "accuracy", autoload=True)

    page = (project.path / "page.html").read_text("utf-8")
    (blob,) = re.findall(r'data-jsonblob="([^"]*)"', page)
    tests = json.loads(html.unescape(blob))["tests"]
    (content,) = [
        extra["content"]
        for name, rows in tests.items()
        if "port-ssh" in name
        for row in rows
        for extra in row["extras"]
    ]
    assert "<th>candidate</th><td><code>22</code></td>" in content
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in content


def test_the_workflow_of_this_repository_runs_what_its_ci_script_runs() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]
    commands = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])

    targets = make_targets(commands)
    elsewhere = {"coverage", "dist", "test-bare", "test-lowest", "test-mlx"}  # environments or machines of their own
    assert targets == make_targets((ROOT / ".ci" / "run").read_text("utf-8")) | elsewhere
    assert all(f"\n{target}:" in (ROOT / "Makefile").read_text("utf-8") for target in targets)


def make_targets(text: str) -> set[str]:
    return set(re.findall(r"^make (\S+)", text, re.MULTILINE))
