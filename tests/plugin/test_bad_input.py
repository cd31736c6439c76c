"""What goes wrong is named with its place, costs no stored work, and never passes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from engram_bench.backends.registry import unavailable_reason
from tests.conftest import TWO_FACTS, BenchProject


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "*patterns/facts.yaml: line ?: not YAML*"),
        (TWO_FACTS.replace("category: ports", "categry: ports"), "*line 1?: pattern 'port-ssh': *'categry'*category*"),
        (TWO_FACTS.replace('output: "22"', "output: 22"), "*pattern 'port-ssh': output*22*"),
        (TWO_FACTS.replace('output: "22"', 'output: ""'), "*pattern 'port-ssh': output is ''*expected at least one*"),
        (TWO_FACTS.replace("id: port-ssh", "id: http-404"), "*'http-404'*"),
        (TWO_FACTS.replace("Port of SSH?", "HTTP status code for 'Not Found'?"), "*'port-ssh'*"),
        (TWO_FACTS.replace("Which status do I get for a missing page?", "HTTP status code for 'Not Found'?"), "*held*"),
        (TWO_FACTS.replace("category: ports", "category: ports\n    match: nearly"), "*'nearly'*"),
    ],
    ids=["yaml", "unknown-key", "wrong-type", "empty", "duplicate-id", "conflict", "leak", "matcher"],
)
def test_mistake_in_a_pattern_file_is_shown_before_any_model_is_loaded(
    project: BenchProject, text: str, message: str
) -> None:
    project.patterns(text)

    result = project.run("-m", "accuracy", "--collect-only")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([message])


def test_held_out_wording_trained_on_in_another_file_stops_the_session(
    project: BenchProject, workers: Sequence[str]
) -> None:
    project.patterns(
        'name: more\npatterns:\n  - {input: "What code says a page is missing?", output: "404", category: http}\n',
        "more.yaml",
    )

    result = project.run("-m", "accuracy", *workers)

    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)
    assert "What code says a page is missing?" in result.stdout.str() + result.stderr.str()
    assert not (project.path / "adapters").exists()


def test_crash_in_a_users_matcher_is_not_scored_and_fails(project: BenchProject) -> None:
    project.pytester.makeconftest(
        """
        from engram_bench import matchers

        def crash(text, answer):
            raise ZeroDivisionError("my mistake")

        matchers.register("mine", crash)
        """
    )
    project.patterns(TWO_FACTS.replace("category: ports", "category: ports\n    match: mine"))

    result = project.run("-m", "accuracy", "--engram-gate-only", "--engram-gate=accuracy >= 0%")

    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*not scored*my mistake*"])


def assert_refused(result: pytest.RunResult, line: str) -> None:
    """One error line, no test run, no traceback, and the exit status of a usage error."""
    shown = [*result.outlines, *result.errlines]
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sum(each.startswith("ERROR: ") for each in shown) == 1
    pytest.LineMatcher(shown).fnmatch_lines([f"ERROR: {line}"])
    assert not any("Traceback" in each or "INTERNALERROR" in each or each.startswith("E  ") for each in shown)
    assert not any(" passed" in each or " failed" in each or " error" in each for each in result.outlines)


def adapter_folder(project: BenchProject) -> Path:
    (folder,) = (project.path / "adapters").glob("lora-*")
    return folder


def test_damaged_adapter_is_an_error_that_names_the_file(project: BenchProject) -> None:
    project.run("-m", "accuracy")
    (adapter_folder(project) / "adapter_model.safetensors").write_bytes(b"cut")

    result = project.run("-m", "accuracy", "--engram-no-cache")

    assert_refused(result, "*adapter_model.safetensors*")


def test_adapter_of_another_base_model_is_refused(project: BenchProject) -> None:
    project.run("-m", "accuracy")
    manifest = adapter_folder(project) / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    content["base_fingerprint"] = "0" * 64
    manifest.write_text(json.dumps(content), "utf-8")

    result = project.run("-m", "accuracy", f"--engram-adapter={adapter_folder(project)}")

    assert_refused(result, f"*trained on base model {'0' * 64}, expected *")


def test_missing_adapter_folder_is_named(project: BenchProject) -> None:
    result = project.run("-m", "accuracy", "--engram-adapter=nowhere")

    assert_refused(result, "*nowhere: no such folder, expected an adapter*")


@pytest.mark.parametrize("own_tests", [False, True], ids=["pattern-files", "own-test"])
def test_missing_model_is_one_error_before_the_first_test(project: BenchProject, own_tests: bool) -> None:
    project.pytester.makepyfile(test_mine="def test_mine(candidate):\n    assert candidate('Port of SSH?') == '22'\n")

    result = project.run("--engram-backend=cpu", "--engram-model=nowhere", "test_mine.py" if own_tests else "patterns")

    is_there = unavailable_reason("cpu") is None
    assert_refused(
        result, "*model 'nowhere': no such model, expected a preset*" if is_there else "*backend 'cpu' needs*"
    )


def test_collecting_alone_asks_for_no_model(project: BenchProject) -> None:
    result = project.run("-m", "accuracy", "--engram-backend=cpu", "--engram-model=nowhere", "--collect-only")

    assert result.ret == 0


def test_nothing_to_train_on_is_one_error(project: BenchProject) -> None:
    project.patterns("name: facts\nkind: retention\npatterns:\n  - {input: Capital of Peru?, output: Lima}\n")

    result = project.run()

    assert_refused(result, "*patterns: none of kind memory in *patterns, expected at least one to train on")


def test_answer_longer_than_its_limit_is_one_error(project: BenchProject, workers: Sequence[str]) -> None:
    project.patterns(TWO_FACTS.replace("category: ports", "max_tokens: 2"))

    result = project.run("-m", "accuracy", *workers)

    assert_refused(result, "*patterns/facts.yaml: line ?: pattern 'port-ssh': max_tokens is 2, expected at least 3*")
    assert not (project.path / "adapters").exists()


def test_report_folder_that_cannot_be_written_fails_and_keeps_what_was_there(project: BenchProject) -> None:
    (project.path / "reports").write_text("a file where the folder should be", "utf-8")

    result = project.run("-m", "accuracy", "--engram-gate=accuracy >= 0%")

    result.assert_outcomes(passed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*StoreError: *reports*"])
    assert (project.path / "reports").read_text("utf-8").startswith("a file")


def test_prompt_beyond_the_context_names_its_line_before_training(project: BenchProject) -> None:
    project.patterns(TWO_FACTS.replace("Port of SSH?", "Port of SSH" + "?" * 5000))

    result = project.run("-m", "accuracy")

    assert_refused(result, "*patterns/facts.yaml: line ?: pattern 'port-ssh': prompt of 5029 tokens*")
    assert not list((project.path / "adapters").glob("lora-*"))


def test_empty_pattern_folder_collects_nothing(project: BenchProject) -> None:
    (project.path / "patterns" / "facts.yaml").unlink()

    result = project.run("-m", "accuracy")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_named_pattern_path_that_does_not_exist_is_a_usage_error(project: BenchProject) -> None:
    result = project.run("-m", "accuracy", "--engram-patterns=nowhere")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "nowhere" in result.stderr.str()


def test_other_yaml_in_the_repository_is_left_alone(project: BenchProject) -> None:
    (project.path / "compose.yaml").write_text("services: {}\n", "utf-8")

    result = project.run("-m", "accuracy", "--collect-only", "-q")

    assert "compose.yaml" not in result.stdout.str()
    assert result.ret == 0


def test_escape_sequences_of_an_answer_never_reach_the_terminal_raw(project: BenchProject) -> None:
    project.knows({"__wrong__": {"Port of SSH?": "\x1b[2J\u202egotcha"}})

    result = project.run("-m", "accuracy")

    assert result.ret == 1
    assert "\x1b[2J" not in result.stdout.str()
    assert "\u202e" not in result.stdout.str()
    assert "gotcha" in result.stdout.str()
