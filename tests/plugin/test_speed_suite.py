"""Speed tests seen from outside: a speed file in, benchmarks, verdicts and reports out."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import json
import warnings
from typing import Any

import pytest

from engram_bench.runs.store import find_run, load_run
from engram_bench.speed import conditions
from tests.conftest import BenchProject

needs_benchmark = pytest.mark.skipif(
    importlib.util.find_spec("pytest_benchmark") is None, reason="needs pytest-benchmark"
)

SPEED_FILE = """\
name: speed
kind: speed
prompts: ["Port of SSH?", "HTTP status code for 'Not Found'?"]
num_tokens: 4
rounds: 4
batch_sizes: [2, 3]
"""

FUSED = ("-k", "decode_speed and fused")


@pytest.fixture
def timed(project: BenchProject, token_clock: None, monkeypatch: pytest.MonkeyPatch) -> BenchProject:
    """The project with a speed file; a token takes a millisecond, and an attached adapter doubles that."""
    monkeypatch.delenv(
        "PYTEST_XDIST_WORKER", raising=False
    )  # pytest-benchmark times nothing in a worker of ours either
    project.patterns(SPEED_FILE, "speed.yaml")
    project.knows({"__token_s__": {"bare": 0.001, "attached": 0.002, "fused": 0.001}})
    return project


def run(project: BenchProject, *args: str) -> pytest.RunResult:
    """pytest with pytest-benchmark on the speed file."""
    with (
        warnings.catch_warnings()
    ):  # pytest-benchmark before 5.3 opens the file of --benchmark-json twice, closes it once
        warnings.simplefilter("ignore", ResourceWarning)
        result = project.pytester.runpytest_inprocess("-p", "no:xdist", "patterns/speed.yaml", *args)
        if any(arg.startswith("--benchmark-json") for arg in args):
            gc.collect()
    return result


def metric(project: BenchProject, name: str) -> Any:
    """A metric of ``latest.json``."""
    metrics: Any = project.report()["metrics"]
    return metrics[name]


@needs_benchmark
def test_every_side_is_a_test_of_the_speed_file(timed: BenchProject) -> None:
    result = run(timed, "--collect-only", "-q")

    assert [line for line in result.outlines if "::" in line] == [
        f"patterns/speed.yaml::test_{name}"
        for name in (
            "decode_speed[baseline]",
            "decode_speed[candidate]",
            "decode_speed[fused]",
            "batch_throughput[baseline-2]",
            "batch_throughput[candidate-2]",
            "batch_throughput[fused-2]",
            "batch_throughput[baseline-3]",
            "batch_throughput[candidate-3]",
            "batch_throughput[fused-3]",
            "first_token[baseline]",
            "first_token[candidate]",
            "first_token[fused]",
            "time_to_answer[baseline]",
            "time_to_answer[candidate]",
            "time_to_answer[fused]",
            "load_time",
        )
    ]


@needs_benchmark
def test_benchmark_only_times_all_sides_and_judges_the_fused_one(timed: BenchProject) -> None:
    result = timed.pytester.runpytest_inprocess(
        "-p", "no:xdist", "--benchmark-only", "--engram-gate=decode_speed >= -50%", "patterns"
    )

    assert result.parseoutcomes()["passed"] == 16
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*gate passed: decode_speed*"])
    assert metric(timed, "attached_decode_speed")["ratio"]["value"] == pytest.approx(0.5)


@needs_benchmark
def test_a_slower_fused_model_fails_the_session(timed: BenchProject) -> None:
    timed.knows({"__token_s__": {"bare": 0.001, "fused": 0.003}})

    result = run(timed, *FUSED)

    result.assert_outcomes(passed=1, deselected=15)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gate failed: decode_speed*at least -5 %*"])


@needs_benchmark
def test_attached_has_a_gate_of_its_own(timed: BenchProject) -> None:
    result = run(timed, "-k", "decode_speed and candidate", "--engram-gate=attached_decode_speed >= -10%")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gate failed: attached_decode_speed*"])


@needs_benchmark
def test_benchmark_json_holds_rounds_and_facts_grouped_by_test(timed: BenchProject) -> None:
    run(timed, "--benchmark-json=out.json", "-k", "throughput and fused or first_token and baseline")

    benchmarks = {one["name"]: one for one in json.loads((timed.path / "out.json").read_text("utf-8"))["benchmarks"]}
    fused, first = benchmarks["test_batch_throughput[fused-3]"], benchmarks["test_first_token[baseline]"]
    assert (fused["group"], first["group"]) == ("batch_throughput 3", "first_token")
    assert fused["stats"]["rounds"] >= 4
    info = fused["extra_info"]
    assert {key: info[key] for key in ("side", "batch", "tokens", "backend", "device", "dtype")} == {
        "side": "fused",
        "batch": 3,
        "tokens": 12,
        "backend": "fake",
        "device": "table",
        "dtype": "bytes",
    }
    assert info["tok_s"] == pytest.approx(1000)
    assert info["peak_memory_mb"] > 1
    assert first["extra_info"]["ttft_ms"] == pytest.approx(1, rel=1e-3)


@needs_benchmark
def test_rounds_are_what_the_option_says_and_none_are_added_without_a_gate(timed: BenchProject) -> None:
    run(timed, *FUSED, "--engram-speed-rounds=3", "--engram-gate=answer_tokens <= 12")

    assert metric(timed, "decode_speed")["ratio"]["n"] == 3


@needs_benchmark
def test_rounds_are_added_while_the_gate_is_undecided(timed: BenchProject) -> None:
    run(timed, *FUSED, "--engram-speed-rounds=1", "--engram-gate=decode_speed >= -5%")

    assert metric(timed, "decode_speed")["ratio"]["n"] > 1


@needs_benchmark
def test_an_undecided_gate_is_insufficient_when_the_budget_is_spent(timed: BenchProject) -> None:
    result = run(timed, *FUSED, "--engram-speed-rounds=1", "--engram-speed-budget=0")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gate insufficient: decode_speed*"])


@needs_benchmark
def test_benchmark_disable_runs_once_and_judges_nothing(timed: BenchProject) -> None:
    result = run(timed, "--benchmark-disable")

    result.assert_outcomes(passed=16)
    assert result.ret == 0
    assert not (timed.path / "reports").exists()


def test_without_pytest_benchmark_tests_skip_with_the_pip_command(timed: BenchProject) -> None:
    result = timed.run("patterns/speed.yaml", "-rs", "--strict-markers")

    result.assert_outcomes(skipped=16)
    result.stdout.fnmatch_lines(["*needs pytest-benchmark: pip install 'engram-bench?speed?'*"])


def test_under_xdist_tests_skip_with_the_reason(timed: BenchProject) -> None:
    result = timed.run("patterns/speed.yaml", "-n", "1", "-rs")

    result.assert_outcomes(skipped=16)
    result.stdout.fnmatch_lines(["*SKIPPED*xdist*"])


@needs_benchmark
def test_a_prompt_longer_than_the_context_is_refused_by_number(timed: BenchProject) -> None:
    timed.patterns(SPEED_FILE.replace("Port of SSH?", "x" * 4100), "speed.yaml")

    result = run(timed, *FUSED)

    result.assert_outcomes(errors=1, deselected=15)
    result.stdout.fnmatch_lines(["*patterns/speed.yaml*prompt 1: 4* tokens + 32 new, expected at most 4096 together*"])


@needs_benchmark
def test_memory_exhausted_in_one_test_keeps_the_other_results(timed: BenchProject) -> None:
    timed.knows({"__token_s__": {"bare": 0.001, "fused": 0.001}, "__memory__": 2})

    result = run(timed, "-k", "fused and not first", "--engram-gate=batch_throughput >= -90%")

    result.assert_outcomes(passed=3, failed=1, deselected=12)
    result.stdout.fnmatch_lines(["*memory ran out*3 prompts at once*"])
    assert metric(timed, "decode_speed")["ratio"]["n"] >= 4


@needs_benchmark
def test_a_model_that_ends_at_once_is_timed_over_all_tokens(timed: BenchProject) -> None:
    timed.knows({"Port of SSH?": "", "HTTP status code for 'Not Found'?": "", "__token_s__": {"bare": 0.001}})

    result = run(timed, "-k", "baseline", "--benchmark-json=out.json")

    result.assert_outcomes(passed=5, deselected=11)
    benchmarks = json.loads((timed.path / "out.json").read_text("utf-8"))["benchmarks"]
    tokens = {one["name"]: one["extra_info"]["tokens"] for one in benchmarks}
    assert tokens["test_decode_speed[baseline]"] == 4
    assert tokens["test_time_to_answer[baseline]"] == 1


@needs_benchmark
def test_an_answer_is_timed_to_its_own_end(timed: BenchProject) -> None:
    result = run(timed, "-k", "time_to_answer", "--engram-gate=time_to_answer <= -10%")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["*gate passed: time_to_answer*"])
    assert metric(timed, "time_to_answer")["ratio"]["value"] == pytest.approx(
        3.5 / 15
    )  # bytes of "22" and "404" against "I do not know."


@needs_benchmark
def test_the_store_of_completions_is_not_used(timed: BenchProject) -> None:
    run(timed, *FUSED)

    assert not (timed.path / "cache" / "completions.sqlite").exists()


@needs_benchmark
def test_an_adapter_that_cannot_be_opened_is_one_error_before_anything_is_timed(timed: BenchProject) -> None:
    (timed.path / "patterns" / "facts.yaml").unlink()
    (timed.path / "adapter").mkdir()

    result = run(timed, "-k", "decode_speed", "--engram-adapter=adapter")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: adapter: neither adapter_model.safetensors nor adapters.safetensors, expected*"]
    )


@needs_benchmark
def test_a_model_that_cannot_be_had_is_tried_once(timed: BenchProject) -> None:
    (timed.path / "patterns" / "facts.yaml").unlink()
    (timed.path / "adapter").mkdir()

    result = run(timed, "-k", "decode_speed", "--engram-adapter=adapter", "--continue-on-collection-errors")

    result.assert_outcomes(errors=3, deselected=13)
    result.stdout.fnmatch_lines(
        ["*not answered, because an earlier test failed with AdapterError: *decode_speed?baseline?*"]
    )


@needs_benchmark
def test_no_rounds_in_the_file_are_refused_by_line(timed: BenchProject) -> None:
    timed.patterns(SPEED_FILE.replace("rounds: 4", "rounds: 0"), "speed.yaml")

    result = run(timed)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*speed.yaml*line 5: rounds*0*"])


@needs_benchmark
def test_cores_changed_between_sides_fail_the_test(timed: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    found = itertools.chain([conditions.Conditions(2, None)] * 3, itertools.repeat(conditions.Conditions(1, None)))
    monkeypatch.setattr(conditions, "_read", lambda: next(found))

    result = run(timed, *FUSED)

    result.assert_outcomes(failed=1, deselected=15)
    result.stdout.fnmatch_lines(["*1 core after a round, expected 2 cores as before*"])


@needs_benchmark
def test_a_run_is_compared_with_an_earlier_one_by_their_baselines(timed: BenchProject) -> None:
    run(timed, *FUSED)
    timed.knows({"__token_s__": {"bare": 0.01, "fused": 0.02}})

    result = run(timed, *FUSED, "--engram-compare", "--engram-gate=decode_speed >= -60%")

    result.stdout.fnmatch_lines(
        ["since run 0001-*", "decode_speed *1000.0 tok/s *50.0 tok/s *-50.0 %*each", "*own baseline*"]
    )


@needs_benchmark
def test_each_candidate_is_timed_beside_its_own_baseline(timed: BenchProject) -> None:
    (timed.path / "engram.toml").write_text("[candidates.a]\nkind = 'lora'\n[candidates.b]\nkind = 'memory'\n", "utf-8")

    result = run(timed, "-k", "decode_speed and not fused", "--engram-gate=accuracy >= 0%")

    result.assert_outcomes(passed=4)
    for name in ("a", "b"):
        result.stdout.fnmatch_lines([f"*benchmark 'decode_speed {name}': 2 tests*"])
        saved = load_run(find_run(timed.path / "reports", f"latest:{name}"))
        assert [rounds.side for rounds in saved.speed] == ["baseline", "candidate"]
        assert len(saved.speed[1].baseline_s) == len(saved.speed[1].seconds)
