"""The main job seen from outside: pattern files in, test outcomes, reports and an exit status out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from engram_bench.runs.store import load_run
from tests.conftest import TWO_FACTS, BenchProject

pytestmark = pytest.mark.usefixtures("project", "accuracy_only")


def test_learned_patterns_pass_and_the_comparison_is_printed(project: BenchProject, workers: Sequence[str]) -> None:
    result = project.run("--engram-gate=accuracy >= +0pp", *workers)

    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*accuracy*", "*fixed*2*"])


def test_missed_pattern_fails_at_its_line_with_both_answers(project: BenchProject, workers: Sequence[str]) -> None:
    project.knows({"__wrong__": {"Port of SSH?": "23"}, "Port of SSH?": "80"})

    result = project.run("--engram-gate=accuracy >= 10%", *workers)

    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    output = result.stdout.str()
    for shown in ("Port of SSH?", "'22'", "'80'", "'23'", "patterns/facts.yaml:8"):
        assert shown.strip("'") in output


def test_bare_model_is_red_without_an_adapter(project: BenchProject) -> None:
    result = project.run("--engram-adapter=none")

    result.assert_outcomes(failed=2)
    assert result.ret == 1


def test_gate_only_turns_misses_into_xfails(project: BenchProject, workers: Sequence[str]) -> None:
    project.knows({"__forgets__": ["Port of SSH?"]})

    result = project.run("--engram-gate-only", "--engram-gate=accuracy >= 50%", *workers)

    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == 0


def test_required_pattern_fails_even_when_gates_decide(project: BenchProject) -> None:
    project.patterns(TWO_FACTS.replace("category: ports", "category: ports\n    required: true"))
    project.knows({"__forgets__": ["Port of SSH?"]})

    result = project.run("--engram-gate-only", "--engram-gate=accuracy >= 50%")

    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1


def test_failed_gate_fails_a_session_whose_tests_pass(project: BenchProject, workers: Sequence[str]) -> None:
    project.knows({"HTTP status code for 'Not Found'?": "404", "Port of SSH?": "22"})

    result = project.run("--engram-gate=accuracy >= +10pp", *workers)

    result.assert_outcomes(passed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gate failed*accuracy*+0.0 pp*at least +10 pp*"])


def test_gain_on_too_few_rows_is_insufficient_and_no_pass(project: BenchProject) -> None:
    result = project.run("--engram-gate=accuracy >= +10pp")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*insufficient*accuracy*"])


def test_reports_hold_what_the_terminal_says(project: BenchProject, workers: Sequence[str]) -> None:
    project.run(*workers)

    report = project.report()

    accuracy = report["metrics"]["accuracy"]  # type: ignore[index]
    assert (accuracy["baseline"]["passed"], accuracy["candidate"]["passed"], accuracy["difference_pp"]) == (0, 2, 100.0)
    assert report["ledger"]["cases"] == {"facts/http-404": "fixed", "facts/port-ssh": "fixed"}  # type: ignore[index]
    assert report["training"]["steps"] == 3  # type: ignore[index]
    assert report["provenance"]["command"]  # type: ignore[index]
    assert (project.path / "reports" / "latest.md").exists()
    assert len(list((project.path / "reports" / "runs").glob("0001-*.json"))) == 1


@pytest.mark.parametrize(
    "selection",
    [
        ["-k", "ssh"],
        ["patterns/facts.yaml::test_accuracy[port-ssh]"],
        ["-m", "accuracy", "-k", "port"],
        ["patterns", "-k", "ssh"],
    ],
    ids=["keyword", "node-id", "marker", "folder"],
)
def test_selection_runs_one_case_and_keeps_the_adapter(project: BenchProject, selection: list[str]) -> None:
    project.run()
    (before,) = (project.path / "adapters").glob("lora-*")

    result = project.run(*selection)

    result.assert_outcomes(passed=1)
    assert list((project.path / "adapters").glob("lora-*")) == [before]


def test_collect_only_loads_no_model_and_writes_nothing(project: BenchProject) -> None:
    before = sorted(path.name for path in project.path.iterdir())

    result = project.run("--collect-only", "-q", "-p", "no:cacheprovider")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["patterns/facts.yaml::test_accuracy?http-404?"])
    assert sorted(path.name for path in project.path.iterdir()) == before


def test_last_failed_reruns_the_missed_case(project: BenchProject) -> None:
    project.knows({"__forgets__": ["Port of SSH?"]})
    project.run()

    result = project.run("--lf")

    result.assert_outcomes(failed=1)


def test_first_failure_stops_with_exitfirst(project: BenchProject) -> None:
    result = project.run("-x", "--engram-adapter=none")

    result.assert_outcomes(failed=1)


def test_stored_answers_are_used_and_no_cache_asks_again(project: BenchProject) -> None:
    project.run()
    project.knows({"Port of SSH?": "changed"})

    stored = project.run("--engram-gate=accuracy >= 0%")
    asked = project.run("--engram-no-cache", "--engram-gate=accuracy >= 0%")

    assert stored.ret == asked.ret == 0
    runs = [json.loads(path.read_text("utf-8")) for path in sorted((project.path / "reports" / "runs").glob("*.json"))]
    texts = [[row["completion"]["text"] for row in run["results"] if row["side"] == "baseline"] for run in runs]
    assert texts[0] == texts[1]
    assert "changed" in texts[2]


def test_without_a_cache_the_workers_of_a_session_share_a_store_that_ends_with_it(project: BenchProject) -> None:
    project.pytester.makepyfile(
        """
        import pathlib, pytest
        from engram_bench.plugin.handle import session_of

        @pytest.mark.parametrize("number", range(2))
        def test_mine(candidate, request, worker_id, number):
            candidate("Port of SSH?")
            store = session_of(request.config).bench.engine.store.path
            pathlib.Path(request.config.rootpath, f"{worker_id}.txt").write_text(str(store))
        """
    )

    result = project.run(
        *("-m", "", "--engram-adapter=none", "--engram-no-cache", "--dist=each", "-n", "2"),
        *map(str, project.path.glob("test_*.py")),
    )

    assert result.ret == 0
    (store,) = {(project.path / f"gw{number}.txt").read_text("utf-8") for number in (0, 1)}
    assert not Path(store).parent.exists()


def test_answers_without_shortcuts_are_stored_apart(project: BenchProject) -> None:
    project.run("--engram-gate=accuracy >= 0%")
    project.knows({"Port of SSH?": "changed"})

    result = project.run("--engram-plain=drafts,packing", "--engram-gate=accuracy >= 0%")

    result.stdout.fnmatch_lines(["engram-bench: backend fake *, without drafts, packing"])
    (run,) = map(load_run, (project.path / "reports" / "runs").glob("0002-*.json"))
    assert run.provenance.versions["plain"] == "drafts, packing"
    assert "changed" in [row.completion.text for row in run.results if row.side == "baseline"]


def test_crash_of_the_backend_is_an_error_and_no_miss(project: BenchProject, workers: Sequence[str]) -> None:
    project.knows({"__crash__": "Port of SSH?"})

    result = project.run("--engram-gate-only", *workers)

    result.assert_outcomes(errors=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*crash at prompt*"])


def test_limit_takes_the_first_patterns_of_each_file(project: BenchProject) -> None:
    result = project.run("--engram-limit=1", "--collect-only", "-q")

    result.stdout.fnmatch_lines(["*http-404*", "1/* tests collected*"])


def test_retrain_trains_a_stored_adapter_anew_once(project: BenchProject, workers: Sequence[str]) -> None:
    project.run()
    manifest = next((project.path / "adapters").glob("lora-*/manifest.json"))
    before = manifest.stat().st_mtime_ns

    project.run("--engram-retrain", *workers)

    assert manifest.stat().st_mtime_ns != before
