"""What was asked for and not judged never looks like a pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from engram_bench.errors import UsageError
from engram_bench.plugin.ledger import SessionLedger
from engram_bench.records import Pattern, PatternSet, SourceLine
from engram_bench.session.plan import SUITE
from engram_bench.session.reading import check_keys

OK, FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED


def ledger(*arguments: str, collectonly: bool = False) -> SessionLedger:
    config: Any = SimpleNamespace(
        invocation_params=SimpleNamespace(args=arguments), option=SimpleNamespace(collectonly=collectonly)
    )
    settings: Any = SimpleNamespace(gate=("accuracy >= 90%",), chosen={"": None})
    return SessionLedger(config, settings)


def finish(judge: SessionLedger, status: int = OK) -> int:
    session: Any = SimpleNamespace(exitstatus=status)
    judge.pytest_sessionfinish(session)
    return int(session.exitstatus)


@pytest.mark.parametrize("arguments", [("--engram-gate=accuracy >= 90%",), ("--engram-gate", "accuracy >= 90%")])
def test_a_gate_of_the_command_line_fails_a_session_that_measured_nothing(arguments: tuple[str, ...]) -> None:
    judge = ledger("-m", "sanity", *arguments)

    assert finish(judge) == FAILED
    assert judge._problem == "gates: nothing was measured in this session, so they were not judged: accuracy >= 90%"


@pytest.mark.parametrize(
    ("arguments", "collectonly", "status"),
    [
        (("tests/unit",), False, OK),
        (("--engram-gate-only",), False, OK),
        (("--engram-gate=accuracy >= 90%",), True, OK),
        (("--engram-gate=accuracy >= 90%",), False, pytest.ExitCode.INTERRUPTED),
    ],
    ids=["a gate of the configuration", "gate-only", "--collect-only", "ended otherwise"],
)
def test_other_sessions_end_as_they_would(arguments: tuple[str, ...], collectonly: bool, status: int) -> None:
    assert finish(ledger(*arguments, collectonly=collectonly), status) == status


def report(nodeid: str, when: str, *, outcome: str = "failed", properties: Mapping[str, str] | None = None) -> Any:
    return SimpleNamespace(
        nodeid=nodeid, when=when, failed=outcome == "failed", user_properties=list((properties or {}).items())
    )


@pytest.mark.parametrize(
    ("told", "missing"),
    [
        (report("patterns/f.yaml::test_accuracy[ssh]", "???"), ["patterns/f.yaml::test_accuracy[ssh]"]),
        (report("patterns/f.yaml::test_accuracy[ssh]", "setup"), ["patterns/f.yaml::test_accuracy[ssh]"]),
        (report("patterns/f.yaml::t[x]", "setup", properties={"engram_case": "f/ssh"}), ["f/ssh"]),
        (report("tests/test_own.py::test_x", "setup"), []),
        (report("patterns/f.yaml::test_accuracy[ssh]", "call"), []),
        (report("patterns/f.yaml::test_accuracy[ssh]", "setup", outcome="passed"), []),
    ],
    ids=["crashed worker", "fixture of a user", "no answer", "other test", "has its rows later", "passed"],
)
def test_a_test_that_ended_before_its_answer_is_missing_in_the_run(told: Any, missing: list[str]) -> None:
    judge = ledger()

    judge.pytest_runtest_logreport(told)

    assert judge._gathered[""].missing == missing


@pytest.mark.parametrize("limit", [1, None])
def test_required_patterns_are_asked_beyond_the_limit(limit: int | None) -> None:
    patterns = tuple(
        Pattern(name, f"{name}?", "1", "c", SourceLine("f.yaml", 1), required=name == "c") for name in ("a", "b", "c")
    )
    settings: Any = SimpleNamespace(limit=limit, items="pattern")

    tasks = SUITE["accuracy"].tasks(PatternSet("f", "f.yaml", patterns=patterns), settings)

    assert [task.name for task in tasks] == (["a", "c"] if limit else ["a", "b", "c"])


def test_a_misspelt_key_is_refused_with_the_one_that_is_meant() -> None:
    check_keys(["engram_gate", "addopts"])

    with pytest.raises(UsageError, match=re.escape("engram_gates: unknown key of the configuration") + ".*engram_gate"):
        check_keys(["engram_gates"])
