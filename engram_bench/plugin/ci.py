"""Results handed on to a CI system and to pytest-html, where these are present; nothing here changes a result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engram_bench.records import CaseResult
from engram_bench.reporting.case_html import case_html
from engram_bench.reporting.github import job_summary, workflow_commands
from engram_bench.reporting.junit import case_properties, session_properties
from engram_bench.session.conclusion import Conclusion


def add_properties(item: pytest.Item, baseline: CaseResult | None, candidate: CaseResult) -> None:
    """Put the answers on the item's reports: ``--junit-xml`` writes them as properties of the case."""
    item.user_properties += case_properties(baseline, candidate)


def add_extras(config: pytest.Config, report: pytest.TestReport, rows: list[CaseResult]) -> None:
    """Put the answers into the case's row of pytest-html, if that plugin writes a page; not for a whole category."""
    if not getattr(config.option, "htmlpath", None) or len({row.case.pattern_id for row in rows}) != 1:
        return
    from pytest_html import extras

    sides = {row.side: row for row in reversed(rows)}  # the first row of a side: the greedy one
    report.extras = [  # type: ignore[attr-defined]
        *getattr(report, "extras", []),
        extras.html(case_html(sides.get("baseline"), sides.get("candidate", rows[0]))),
    ]


def publish(config: pytest.Config, conclusion: Conclusion, candidate: str = "") -> str:
    """Add properties of the session to the JUnit file, and a page to the job summary, where these exist.

    Args:
        config: pytest's configuration.
        conclusion: The session's results, or those of one candidate.
        candidate: Name that tells the properties of one candidate from those of others; empty where there is only one.

    Returns:
        The reason why the summary could not be written; empty if it was written or none is wanted.
    """
    for name, text in session_properties(conclusion.run, conclusion.comparison, conclusion.verdicts):
        _junit(config, name.replace("engram_", f"engram_{candidate}_", 1) if candidate else name, text)
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return ""
    text = job_summary(conclusion.run, conclusion.comparison, conclusion.verdicts)
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as summary:
            summary.write(f"{text}\n")
    except OSError as error:
        return f"GITHUB_STEP_SUMMARY: {path}: job summary not written: {error.strerror or error}"
    return ""


def is_on_github() -> bool:
    """Whether a workflow of GitHub Actions runs this session."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotation_lines(config: pytest.Config, conclusion: Conclusion) -> list[str]:
    """Workflow commands for GitHub Actions; none elsewhere."""
    if not is_on_github():
        return []
    workspace = Path(os.environ.get("GITHUB_WORKSPACE") or config.rootpath).resolve()

    def in_workspace(path: str) -> str:
        full = (config.rootpath / path).resolve()
        return full.relative_to(workspace).as_posix() if full.is_relative_to(workspace) else path

    return workflow_commands(conclusion.comparison, conclusion.verdicts, repository_path=in_workspace)


def _junit(config: pytest.Config, name: str, text: str) -> None:
    """Add a property to the JUnit file, as the fixture ``record_testsuite_property`` does for a test."""
    from _pytest.junitxml import xml_key

    xml: Any = config.stash.get(xml_key, None)
    if xml is not None:
        xml.add_global_property(name, text)
