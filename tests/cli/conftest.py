"""The command in a project of its own, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engram_bench.cli import main
from tests.conftest import TWO_FACTS


@dataclass
class Shell:
    """A project folder on the fake backend and what commands print there."""

    path: Path
    _read: Callable[[], tuple[str, str]]

    def __call__(self, *argv: str, status: int = 0) -> str:
        """Standard output of a command that must end with *status*; standard error is kept in ``errors``."""
        try:
            found = main(argv)
        except SystemExit as end:  # argparse
            found = int(end.code or 0)
        output, self.errors = self._read()
        assert found == status, f"exit status {found}, expected {status}\n{output}\n{self.errors}"
        return output

    def json(self, *argv: str, status: int = 0) -> Any:
        """The document a command prints with ``--json``."""
        return json.loads(self(*argv, "--json", status=status))

    def patterns(self, text: str, name: str = "facts.yaml") -> Path:
        path = self.path / "patterns" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def knows(self, answers: dict[str, object]) -> None:
        """Let the bare model answer these prompts; see the fake backend for the knobs."""
        (self.path / "knows.json").write_text(json.dumps(answers), "utf-8")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A project with two patterns, neither known to the bare model; its root is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGRAM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ENGRAM_FAKE_BASELINE", str(tmp_path / "knows.json"))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "pytest.ini").write_text("[pytest]\nengram_backend = fake\nengram_steps = 3\n", "utf-8")
    made = Shell(tmp_path, capsys.readouterr)
    made.patterns(TWO_FACTS)
    made.knows({})
    return made
