"""``engram-bench report``: a saved run again, without a model."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Shell

EASY = "--gate=accuracy >= 0%"


@pytest.fixture
def saved(shell: Shell) -> Shell:
    shell("eval", EASY)
    shell.knows({"__crash__": "Port of SSH?"})  # any question to a model now fails
    return shell


def test_saved_run_is_shown_again(saved: Shell) -> None:
    output = saved("report", EASY)

    assert "fixed 2" in output


def test_other_gates_judge_it_anew(saved: Shell) -> None:
    saved("report", "--gate=accuracy >= 100%", status=0)
    output = saved("report", "--gate=answer_tokens <= 1", status=1)

    assert "gate failed: answer_tokens" in output


def test_json_is_what_the_session_saved(saved: Shell) -> None:
    before = json.loads((saved.path / "reports" / "latest.json").read_text("utf-8"))

    assert saved.json("report", EASY) == before


@pytest.mark.parametrize(
    ("form", "name"), [("markdown", "latest.md"), ("html", "latest.html"), ("json", "latest.json")]
)
def test_page_goes_to_a_file(saved: Shell, form: str, name: str) -> None:
    saved("report", EASY, "--format", form, "--out", "page")

    assert (saved.path / "page").read_text("utf-8") == (saved.path / "reports" / name).read_text("utf-8")


def test_no_runs_yet_is_said(shell: Shell) -> None:
    shell("report", status=2)

    assert "no run saved yet" in shell.errors


def test_cut_run_file_is_named(saved: Shell) -> None:
    (path,) = (saved.path / "reports" / "runs").glob("0001-*.json")
    path.write_bytes(path.read_bytes()[:200])

    saved("report", status=3)

    assert f"{path.name}: not a complete run" in saved.errors


def test_run_of_another_schema_is_refused_by_name(saved: Shell) -> None:
    (path,) = (saved.path / "reports" / "runs").glob("0001-*.json")
    path.write_text(path.read_text("utf-8").replace('"schema": 1', '"schema": 99'), "utf-8")

    saved("report", status=3)

    assert f"{path.name}: not a complete run: schema: found 99, expected 1" in saved.errors
