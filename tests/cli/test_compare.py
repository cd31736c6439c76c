"""``engram-bench compare``."""

from __future__ import annotations

import pytest

from engram_bench.records import Run
from engram_bench.runs.store import save_run
from tests.cli.conftest import Shell
from tests.made_up import both, run_of

EASY = "--gate=accuracy >= 0%"


@pytest.fixture
def two_runs(shell: Shell) -> Shell:
    """SSH is right in the first run and wrong in the second, HTTP the other way round."""
    shell.knows({"__forgets__": ["HTTP status code for 'Not Found'?"]})
    shell("eval", EASY)
    shell.knows({"__wrong__": {"Port of SSH?": "23"}})
    shell("eval", EASY, "--retrain")
    return shell


def test_newly_broken_cases_come_first(two_runs: Shell) -> None:
    output = two_runs("compare", "1", "2")

    broken, right = output.index("newly broken, seen"), output.index("newly correct, seen")
    assert broken < right < output.index("accuracy: seen prompts")
    assert "patterns/facts.yaml:8 port-ssh: expected '22', was '22', now '23'" in " ".join(output.split())


def test_newer_run_is_the_latest_one_by_default(two_runs: Shell) -> None:
    assert two_runs.json("compare", "1") == two_runs.json("compare", "1", "2")


def test_json_has_every_case(two_runs: Shell) -> None:
    report = two_runs.json("compare", "1", "2")

    assert report["ledger"]["cases"]["facts/port-ssh"] == "broken"
    assert report["ledger"]["cases"]["facts/http-404"] == "fixed"
    assert report["older"].startswith("0001-")
    assert report["older_training"]["machine"] == report["training"]["machine"] != ""
    assert report["training"].keys() >= {"examples_per_s", "tokens_per_s", "seconds", "device"}
    assert report["run"].startswith("0002-")


def test_broken_cases_fail_only_if_asked_to(two_runs: Shell) -> None:
    two_runs("compare", "1", "2", "--fail-on-broken", status=1)
    two_runs("compare", "1", "1", "--fail-on-broken", status=0)


@pytest.mark.parametrize(
    ("newer", "status"),
    [
        (run_of(both("facts/a", True, True)), 0),
        (run_of(both("other/a", True, True)), 1),
        (run_of(both("facts/a", True, True), both("facts/b", True, None)), 1),
        (run_of(both("facts/a", True, True), missing=("facts/b",)), 1),
    ],
    ids=["as it was", "no case in common", "not scored", "no answer"],
)
def test_what_cannot_be_compared_is_no_success(shell: Shell, newer: Run, status: int) -> None:
    for run in (run_of(both("facts/a", True, True), both("facts/b", True, True)), newer):
        save_run(run, shell.path / "reports")

    shell("compare", "1", "2", "--fail-on-broken", status=status)


def test_cases_of_one_run_only_are_listed_apart(two_runs: Shell) -> None:
    two_runs.patterns("name: more\npatterns: [{input: One?, output: one}]\n", "more.yaml")
    two_runs("eval", EASY)

    output = two_runs("compare", "2", "3")

    assert "only in the newer run" in output
    assert "more/more-one" in output


def test_different_models_are_said(two_runs: Shell) -> None:
    (path,) = (two_runs.path / "reports" / "runs").glob("0002-*.json")
    text = path.read_text("utf-8").replace('"model": "fake"', '"model": "other"')
    path.write_text(text, "utf-8")

    output = two_runs("compare", "1", "2")

    assert "different models" in output
    assert "→ other" in " ".join(output.split())


def test_missing_run_is_a_usage_error_that_says_which_there_are(two_runs: Shell) -> None:
    two_runs("compare", "1", "9", status=2)

    assert "run '9' not found" in two_runs.errors
    assert "(1 to 2)" in two_runs.errors


def test_narrow_terminal_is_enough(two_runs: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    output = two_runs("compare", "1", "2")

    assert max(len(line) for line in output.partition("\n\naccuracy")[0].splitlines()) <= 40


# ── candidates ──────────────────────────────────────────────────────────────────────────────────


def test_three_runs_are_compared_with_each_other(two_runs: Shell) -> None:
    two_runs("eval", EASY, "--retrain")

    output = two_runs("compare", "1", "2", "3")

    assert output.startswith("3 candidates, ")
    assert "accuracy: row less column (pp)" in output
    assert "facts/http-404: right 2–3; wrong 1" in output
    assert max(map(len, output.splitlines())) <= 80


def test_names_and_gates_make_candidates_of_two_runs(two_runs: Shell) -> None:
    report = two_runs.json("compare", "old=1", "new=2", "--gate", "new.accuracy >= -10pp over old")

    assert [each["name"] for each in report["candidates"]] == ["old", "new"]
    (pair,) = [each for each in report["pairs"] if each["metric"] == "accuracy"]
    assert (pair["better"], pair["worse"], pair["outcome"]) == (1, 1, "no_difference")
    assert report["verdicts"][0]["outcome"] == "pass"


def test_a_gate_that_fails_is_the_exit_status_and_the_reports_are_written(two_runs: Shell) -> None:
    output = two_runs(
        "compare", "1", "2", "--gate=every.accuracy >= 90%", "--html=page.html", "--markdown=page.md", status=1
    )

    assert "gate failed: every.accuracy 50.0 % (1 of 2) in 1, wanted at least 90 %" in output
    assert "facts/port-ssh" in (two_runs.path / "page.html").read_text("utf-8")
    assert (two_runs.path / "page.md").read_text("utf-8").startswith("# engram-bench: 2 candidates\n")


def test_several_runs_of_one_name_are_seeds(two_runs: Shell) -> None:
    report = two_runs.json("compare", "mine=1", "mine=2", "other=2")

    assert [each["seeds"] for each in report["candidates"]] == [["1", "2"], ["2"]]
    assert {each["case_id"] for each in report["flaky"]} >= {"facts/port-ssh", "facts/http-404"}


def test_a_file_is_named_by_its_stem(two_runs: Shell) -> None:
    (path,) = (two_runs.path / "reports" / "runs").glob("0002-*.json")

    report = two_runs.json("compare", "first=1", str(path))

    assert [each["name"] for each in report["candidates"]] == ["first", path.stem]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1", "2", "2"), "run '2': found twice"),
        (("a=1", "a=1", "b=2"), "candidate 'a': found one run twice"),
        (("best=1", "b=2"), "found the name 'best', expected none of best, category"),
        (("careful=1", "b=2", "--gate=carefull.accuracy >= 1%"), "did you mean 'careful'?"),
        (("a=1", "b=2", "--fail-on-broken"), "--fail-on-broken: found candidates"),
        (("a=1", "b=9"), "run '9' not found"),
    ],
)
def test_candidates_that_cannot_be_compared_are_refused(
    two_runs: Shell, arguments: tuple[str, ...], message: str
) -> None:
    two_runs("compare", *arguments, status=2)

    assert message in " ".join(two_runs.errors.split())
