"""Whole sessions on hostile words: a model's answers, names of files, and a server that sends the keys back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engram_bench import door
from tests.backends.server.test_server import FakeServer, answer
from tests.conftest import BenchProject

ANGRY = "\x1b[31mred\x9b2J\x07 \u202egnp.exe\u2069\u3164 \n::error file=a.py::gotcha\n##[error]x <img src=x>"
PATTERNS = """\
name: facts
patterns:
  - id: port-ssh
    input: "::error::Port of SSH?"
    output: "22"
    category: "##[group]ports"
"""


def assert_inert(text: str) -> None:
    assert {char for char in text if not char.isprintable()} <= {"\n"}
    assert not re.search(r"##\w*\[", text)
    assert "\u3164" not in text


def test_hostile_answers_and_file_names_leave_a_session_inert(
    project: BenchProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    project.patterns(PATTERNS, "ev\u202eil\x1b.yaml")
    project.knows({"::error::Port of SSH?": ANGRY, "Port of SSH?": ANGRY})

    result = project.run("-m", "accuracy", "--engram-adapter=none", "--junit-xml=junit.xml", "-rA", "--color=no")

    result.assert_outcomes(failed=3)
    told = result.stdout.str() + result.stderr.str()
    assert r"\x1b[31mred" in told
    commands = re.findall(r"(?m)^\s*::[^\n]*", told)
    assert all(re.match(r"::(error|warning) .*title=", command) for command in commands)
    for text in (
        told,
        (project.path / "summary.md").read_text("utf-8"),
        (project.path / "junit.xml").read_text("utf-8"),
    ):
        assert_inert(text)
    for name in ("latest.md", "latest.html"):
        assert_inert((project.path / "reports" / name).read_text("utf-8"))


class EchoingServer(FakeServer):
    """Sends the header with the key back as the answer, and as an error to every third question."""

    def reply(self, body, headers):  # type: ignore[no-untyped-def]
        super().reply(body, headers)
        return 200, answer(f"you are {headers['Authorization']}"), {}


def test_keys_and_passwords_are_in_nothing_that_a_session_leaves(
    project: BenchProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_secrets", frozenset()), ("_secret_forms", ())):
        monkeypatch.setattr(door, name, value)
    monkeypatch.setenv("ENGRAM_SERVER_API_KEY", "sk-live/51b2")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    server = EchoingServer()
    try:
        result = project.run(
            "--backend=server",
            f"--engram-server-url={server.url.replace('://', '://ann:sw0rd%2Ffish@')}",
            "--engram-baseline-model=bare",
            "--engram-candidate-model=tuned",
            *("-m", "accuracy", "--junit-xml=junit.xml", "-v", "-rA"),
        )
    finally:
        server.close()

    result.assert_outcomes(failed=2)
    assert "you are Bearer HIDDEN" in result.stdout.str()
    result.stdout.fnmatch_lines([f"engram-bench: backend server (as asked), {server.url}: tuned against bare"])
    texts = {"terminal": result.stdout.str() + result.stderr.str()} | left_files(project.path)
    assert {
        "summary.md",
        "junit.xml",
        "reports/latest.html",
        "reports/latest.json",
        "reports/latest.md",
    } <= texts.keys()
    assert any(name.startswith("reports/runs/0001") for name in texts)
    for secret in ("sk-live", "sk-live%2F51b2", "sw0rd", "c2stbGl2ZS81MWIy"):
        assert [name for name, text in texts.items() if secret in text] == []


def left_files(folder: Path) -> dict[str, str]:
    """Everything below the folder, as text."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8", "replace")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_error_behind_a_failure_is_not_shown(project: BenchProject) -> None:
    """The words of a library quote what it read; pytest would print them above ours."""
    project.pytester.makepyfile(
        """
        from engram_bench.errors import ModelError
        from engram_bench.plugin.handle import or_fail

        def fetch():
            try:
                raise ValueError("\x1b[31mforeign")
            except ValueError as error:
                raise ModelError("no model \x07here") from error

        def test_it():
            or_fail(fetch)
        """
    )

    result = project.run("--color=no")

    told = result.stdout.str()
    assert r"ModelError: no model \x07here" in told
    assert "foreign" not in told
    assert_inert(told)
