"""``engram-bench history``."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Shell

EASY = "--gate=accuracy >= 0%"


@pytest.fixture
def two_runs(shell: Shell) -> Shell:
    shell.knows({"__forgets__": ["Port of SSH?"]})
    shell("eval", EASY)
    shell.knows({})
    shell("eval", EASY, "--retrain")
    return shell


def test_runs_are_rows_oldest_first(two_runs: Shell) -> None:
    rows = two_runs.json("history")

    assert [(row["name"][:4], row["points"]["accuracy"]["value"]) for row in rows] == [("0001", 0.5), ("0002", 1.0)]


def test_table_shows_the_figures(two_runs: Shell) -> None:
    older, newer = [line for line in two_runs("history").splitlines() if line.startswith("000")]

    assert older.startswith("0001")
    assert "50.0 %" in older
    assert newer.startswith("0002")
    assert "100.0 %" in newer


def test_no_runs_yet_is_no_error(shell: Shell) -> None:
    output = shell("history")

    assert "no run saved yet" in output
    assert shell.json("history") == []


def test_cut_run_is_named_and_the_others_shown(two_runs: Shell) -> None:
    (path,) = (two_runs.path / "reports" / "runs").glob("0001-*.json")
    path.write_bytes(path.read_bytes()[:100])

    rows = two_runs.json("history")

    assert [row["name"][:4] for row in rows] == ["0002"]
    assert f"left out: {path}: not a complete run" in two_runs.errors


def test_index_spares_reading_the_runs_again(two_runs: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = two_runs.json("history")
    monkeypatch.setattr("engram_bench.runs.history.load_run", None)

    assert two_runs.json("history") == rows


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 9, "runs": []}', '{"schema": 1, "runs": [{}]}'])
def test_damaged_index_is_made_anew(two_runs: Shell, damage: str) -> None:
    rows = two_runs.json("history")
    (two_runs.path / "reports" / "runs" / ".index.json").write_text(damage, "utf-8")

    assert two_runs.json("history") == rows


def test_changed_run_file_is_read_again(two_runs: Shell) -> None:
    two_runs.json("history")
    first, second = sorted((two_runs.path / "reports" / "runs").glob("000*.json"))
    first.write_text(second.read_text("utf-8"), "utf-8")

    rows = two_runs.json("history")

    assert [row["points"]["accuracy"]["value"] for row in rows] == [1.0, 1.0]


def test_last_cuts_and_says_so(two_runs: Shell) -> None:
    output = two_runs("history", "--last", "1")

    assert "0001" not in output
    assert "the last 1 of 2 runs" in output


def test_different_models_are_named(two_runs: Shell) -> None:
    (path,) = (two_runs.path / "reports" / "runs").glob("0002-*.json")
    text = path.read_text("utf-8").replace('"model": "fake"', '"model": "other"')
    path.write_text(text, "utf-8")

    output = two_runs("history")

    assert "different models, compare with care:" in output
    assert "- other: 0002" in output


def test_plot_is_an_svg_with_a_panel_per_figure(two_runs: Shell) -> None:
    two_runs("history", "--plot", "trend.svg")

    svg = ElementTree.parse(two_runs.path / "trend.svg").getroot()
    texts = [each.text for each in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "accuracy" in texts
    assert "100.0 %" in texts
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) % 2 == 0


def test_narrow_terminal_gets_a_run_over_several_lines(two_runs: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    lines = two_runs("history").splitlines()

    assert "  accuracy     50.0 %" in lines
    assert max(map(len, lines)) <= 40


def test_figures_that_no_run_has_are_named_once(two_runs: Shell) -> None:
    assert "not measured in these runs: retention, speed ratio" in two_runs("history")
