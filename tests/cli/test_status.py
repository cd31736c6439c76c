"""``engram-bench status``: tables for a page, from saved runs."""

from __future__ import annotations

import pytest

from engram_bench.cli.status import BEGIN, END
from tests.cli.conftest import Shell

EASY = "--gate=accuracy >= 0%"


@pytest.fixture
def saved(shell: Shell) -> Shell:
    shell("eval", EASY)
    return shell


def test_three_tables_come_from_the_newest_run(saved: Shell) -> None:
    output = saved("status")

    assert [line for line in output.splitlines() if line.startswith("#")] == [
        "### Training",
        "### Evaluation",
        "### Improvement",
    ]
    assert "0.0 % (0 of 2)" in output
    assert "100.0 % (2 of 2)" in output
    assert "+100.0 pp" in output


def test_tables_replace_what_stands_between_the_markers(saved: Shell) -> None:
    page = saved.path / "status.md"
    page.write_text(f"# Status\n\n{BEGIN}\nold\n{END}\n\nThe end.\n", "utf-8")

    saved("status", "--write", "status.md")
    once = page.read_text("utf-8")
    saved("status", "--write", "status.md")

    assert once.startswith(f"# Status\n\n{BEGIN}\n### Training\n")
    assert once.endswith(f"{END}\n\nThe end.\n")
    assert "old" not in once
    assert page.read_text("utf-8") == once


@pytest.mark.parametrize(("text", "status"), [("no markers", 2), (None, 3)], ids=["no-markers", "no-file"])
def test_page_that_cannot_take_them_is_left_alone(saved: Shell, text: str | None, status: int) -> None:
    page = saved.path / "status.md"
    if text is not None:
        page.write_text(text, "utf-8")

    saved("status", "--write", "status.md", status=status)

    assert "status.md" in saved.errors
    assert page.exists() is (text is not None)
    assert not page.exists() or page.read_text("utf-8") == text


def test_no_runs_yet_is_said(shell: Shell) -> None:
    shell("status", status=2)

    assert "no run saved yet" in shell.errors
