"""The sanity guards seen from outside: each catches what it is meant for."""

from __future__ import annotations

import json

import pytest

from engram_bench.adapters.files import read_tensors, write_tensors
from tests.conftest import BenchProject

GUARDS = 7
FREE = "--engram-gate=accuracy >= 0%"


def failed(result: pytest.RunResult) -> list[str]:
    """Names of the guards that failed."""
    return [
        line.partition("test_sanity[")[2].partition("]")[0]
        for line in result.outlines
        if line.startswith("FAILED") and "test_sanity[" in line
    ]


def test_guards_hold_and_run_first(project: BenchProject) -> None:
    result = project.run("-v", "-m", "sanity or accuracy", FREE)

    result.assert_outcomes(passed=GUARDS + 2)
    run = [line.split("::")[1].split("[")[0] for line in result.outlines if "::test_" in line and "PASSED" in line]
    assert run[:1] == ["test_sanity"]
    assert result.ret == 0


def test_guards_hold_under_xdist(project: BenchProject) -> None:
    result = project.run("-m", "sanity or accuracy", FREE, "-n", "2")

    result.assert_outcomes(passed=GUARDS + 2)
    assert result.ret == 0


def test_guards_are_skipped_without_an_adapter(project: BenchProject) -> None:
    result = project.run("-m", "sanity", "--engram-adapter=none")

    result.assert_outcomes(skipped=GUARDS)


def test_adapter_that_says_what_the_bare_model_says_has_no_effect(project: BenchProject) -> None:
    project.knows({"HTTP status code for 'Not Found'?": "404", "Port of SSH?": "22"})

    assert failed(project.run("-m", "sanity")) == ["changes-a-logit"]


def test_adapter_that_rambles_does_not_stop_by_itself(project: BenchProject) -> None:
    project.knows({"__rambles__": True})

    result = project.run("-m", "sanity")

    assert failed(result) == ["stops-by-itself"]
    result.stdout.fnmatch_lines(["*0 of 2 answers end by themselves, expected at least 95 %*"])


def test_template_text_in_an_answer_is_named(project: BenchProject) -> None:
    project.knows({"__wrong__": {"Port of SSH?": "22<|user|>"}})

    result = project.run("-m", "sanity")

    assert failed(result) == ["no-template-text"]
    result.stdout.fnmatch_lines(["*facts/port-ssh: the answer holds '<|user|>'*"])


def test_nan_weights_are_named(project: BenchProject) -> None:
    project.run("-m", "accuracy")
    (adapter,) = (project.path / "adapters").glob("lora-*")
    (adapter / "manifest.json").unlink()  # an adapter from elsewhere
    tensors = read_tensors(adapter / "adapter_model.safetensors")
    write_tensors(
        adapter / "adapter_model.safetensors", {name: tensor * float("nan") for name, tensor in tensors.items()}
    )

    result = project.run("-m", "sanity", f"--engram-adapter={adapter}")

    assert failed(result) == ["finite-weights"]
    result.stdout.fnmatch_lines(["*adapter_model.safetensors: tensor 'seed' holds NaN or infinite values*"])


def test_untrained_adapter_fails_the_gate_when_asked_to_show_it(project: BenchProject) -> None:
    result = project.run("-m", "sanity", "--engram-null-control", "--engram-gate=accuracy >= +10pp")

    result.assert_outcomes(passed=GUARDS + 1)


def test_gate_that_anything_passes_is_found_by_the_untrained_adapter(project: BenchProject) -> None:
    result = project.run("-m", "sanity", "--engram-null-control", FREE)

    assert failed(result) == ["null-adapter-fails"]
    found = "accuracy >= 0% (untrained), accuracy >= 0% (random weights)"
    result.stdout.fnmatch_lines([f"*an adapter that learned nothing passes {found}, expected it to fail*"])


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_what_guards_said_is_in_the_reports(project: BenchProject, workers: list[str]) -> None:
    project.knows({"__rambles__": True})

    result = project.run("-m", "sanity or accuracy", FREE, *workers)

    result.stdout.fnmatch_lines(
        ["sanity guards: 6 of 7 hold, 1 broken", "guard broken: facts stops-by-itself: 0 of 2 *"]
    )
    report = json.loads((project.path / "reports" / "latest.json").read_text("utf-8"))
    assert [guard["guard"] for guard in report["guards"] if guard["outcome"] == "broken"] == ["stops-by-itself"]
    assert len(report["guards"]) == GUARDS


def test_guards_fail_even_when_gates_decide(project: BenchProject) -> None:
    project.knows({"__rambles__": True})

    result = project.run("-m", "sanity or accuracy", "--engram-gate-only", FREE)

    assert result.ret == 1


def test_batch_that_changes_an_answer_is_named(project: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    from engram_bench.backends.fake import FakeGenerator

    complete = FakeGenerator.complete

    def depends_on_the_batch(self, prompts, settings, *, drafts=None):  # type: ignore[no-untyped-def]
        answers = complete(self, prompts, settings, drafts=drafts)
        from dataclasses import replace

        return [replace(answer, text=answer.text + "!" * (len(prompts) > 1)) for answer in answers]

    monkeypatch.setattr(FakeGenerator, "complete", depends_on_the_batch)

    assert failed(project.run("-m", "sanity")) == ["batched-equals-single"]


def test_adapter_of_another_base_model_is_refused_with_both(project: BenchProject) -> None:
    project.run("-m", "accuracy")
    (adapter,) = (project.path / "adapters").glob("lora-*")
    manifest = json.loads((adapter / "manifest.json").read_text("utf-8"))
    manifest["base_fingerprint"] = "f" * 64
    (adapter / "manifest.json").write_text(json.dumps(manifest), "utf-8")

    result = project.run("-m", "sanity", f"--engram-adapter={adapter}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *trained on base model ffffffff*"])
