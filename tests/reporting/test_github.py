from __future__ import annotations

from dataclasses import replace

from engram_bench.records import Verdict
from engram_bench.reporting.github import MAX_ANNOTATIONS, job_summary, workflow_commands
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import DEFAULT_GATES, judge
from tests.made_up import big_run, both, run_of


def test_broken_is_an_error_and_another_seen_miss_a_warning() -> None:
    run = run_of(
        both("facts/a", False, False, line=4),
        both("facts/b", True, False, line=9),
        both("facts/c/held-1", False, False, test="generalization"),
        both("facts/d", False, True),
    )

    lines = workflow_commands(compare(run), ())

    assert [line.partition("::expected")[0] for line in lines] == [
        "::error file=patterns/facts.yaml,line=9,title=broken%3A facts/b",
        "::warning file=patterns/facts.yaml,line=4,title=still wrong%3A facts/a",
    ]


def test_a_required_miss_is_an_error() -> None:
    comparison = compare(run_of(both("facts/a", False, False)))
    comparison = replace(comparison, ledger=tuple(replace(entry, required=True) for entry in comparison.ledger))

    assert workflow_commands(comparison, ())[0].startswith("::error file=")


def test_no_answer_can_start_a_command_of_its_own() -> None:
    run = run_of(both("facts/a", True, False, text="50%\n::error::pwned\r\n"))

    (line,) = workflow_commands(compare(run), ())

    assert "\n" not in line
    assert "\r" not in line
    assert r"candidate says '50%25\n::error::pwned\r\n'" in line


def test_gates_that_are_not_met_come_first_with_their_reason() -> None:
    verdicts = [
        Verdict("accuracy >= +10pp", "insufficient", "+12.5 pp", "at least +10 pp", "needs rows"),
        Verdict("retention >= 90%", "pass", "95 %", "at least 90 %"),
    ]

    lines = workflow_commands(compare(run_of(both("facts/a", True, False))), verdicts)

    assert lines[0] == (
        "::error title=engram-bench::gate insufficient: accuracy +12.5 pp, wanted at least +10 pp: needs rows"
    )
    assert len(lines) == 2


def test_a_case_without_a_score_is_an_error() -> None:
    lines = workflow_commands(compare(run_of(both("facts/a", None, True))), ())

    assert lines == ["::error title=engram-bench::facts/a has no score, so it does not pass"]


def test_no_more_than_github_shows() -> None:
    run = run_of(*(both(f"facts/{i}", i % 2 == 0, False) for i in range(60)))

    lines = workflow_commands(compare(run), ())

    assert [sum(line.startswith(f"::{level}") for line in lines) for level in ("error", "warning")] == [
        MAX_ANNOTATIONS,
        MAX_ANNOTATIONS,
    ]


def test_the_summary_of_a_big_run_stays_far_below_a_mebibyte() -> None:
    run = big_run()
    comparison = compare(run)

    page = job_summary(run, comparison, judge(DEFAULT_GATES, comparison))

    assert "… and 45 more in `latest.json`" in page
    assert len(page.encode()) < 200_000
