"""Generalization, consistency and retention seen from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.conftest import BenchProject

FACTS = """\
name: facts
patterns:
  - id: ssh
    input: Port of SSH?
    output: "22"
    category: ports
    wordings: ["Which port has SSH?"]
    held_out: ["Where does a secure shell listen?"]
"""
HELD_OUT = "Where does a secure shell listen?"
CONTROLS = """\
name: controls
kind: retention
match: contains
patterns:
  - {id: paris, input: Capital of France?, output: Paris, category: world}
  - {id: tokyo, input: Capital of Japan?, output: Tokyo, category: world}
  - {id: hello, input: Hello!, category: talk}
"""
KNOWS: dict[str, object] = {"Capital of France?": "Paris.", "Capital of Japan?": "It is Tokyo.", "Hello!": "Hi."}
ANY = "--engram-gate=accuracy >= 0%"


@pytest.fixture(autouse=True)
def two_files(project: BenchProject) -> None:
    project.patterns(FACTS)
    project.patterns(CONTROLS, "controls.yaml")
    project.knows(KNOWS)


def metrics(project: BenchProject) -> dict[str, Any]:
    found: dict[str, Any] = project.report()["metrics"]  # type: ignore[assignment]
    return found


def test_files_get_the_tests_of_their_kind(project: BenchProject) -> None:
    result = project.run("--collect-only", "-q", "-m", "not sanity")

    result.stdout.fnmatch_lines(
        [
            "patterns/controls.yaml::test_retention?paris?",
            "patterns/controls.yaml::test_retention?tokyo?",
            "patterns/controls.yaml::test_retention?hello?",
            "patterns/facts.yaml::test_accuracy?ssh?",
            "patterns/facts.yaml::test_generalization?ssh/held-1?",
            "patterns/facts.yaml::test_consistency?ssh?",
        ],
        consecutive=True,
    )


def test_held_out_wording_that_is_missed_fails_apart_from_the_seen_one(project: BenchProject) -> None:
    result = project.run("-m", "accuracy or generalization", ANY)

    result.assert_outcomes(passed=1, failed=1)
    assert metrics(project)["accuracy"]["candidate"]["passed"] == 1
    assert metrics(project)["generalization"]["candidate"]["passed"] == 0


def test_pattern_right_under_too_few_wordings_is_not_consistent(project: BenchProject, workers: Sequence[str]) -> None:
    result = project.run("-m", "consistency", "--engram-gate=consistent_accuracy >= 0%", *workers)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*correct answers to 2 of 3 wordings, expected at least 80 %*",
            "*wrong, held out: Where does a secure shell listen?",
        ]
    )


def test_min_consistency_of_the_pattern_decides(project: BenchProject) -> None:
    project.patterns(FACTS + "    min_consistency: 0.6\n")

    result = project.run("-m", "consistency", "--engram-gate=consistent_accuracy >= 0%")

    result.assert_outcomes(passed=1)


def test_repeats_are_drawn_beside_the_greedy_answers(project: BenchProject) -> None:
    project.run("-m", "consistency", "--engram-samples=3", "--engram-gate=consistent_accuracy >= 0%")

    found = metrics(project)

    assert found["sampling_consistency"]["candidate"]["value"] == 1.0
    assert found["sampling_consistency"]["baseline"]["value"] < 1.0
    assert (found["pass_at_k"]["candidate"]["value"], found["pass_hat_k"]["candidate"]["value"]) == (1.0, 1.0)
    assert "3 samples" in found["pass_at_k"]["note"]


def test_more_samples_than_stored_are_drawn_and_none_is_served_as_another(project: BenchProject) -> None:
    project.run("-m", "consistency", "--engram-samples=2", ANY)

    project.run("-m", "consistency", "--engram-samples=6", ANY)

    import json

    runs = sorted((project.path / "reports" / "runs").glob("*.json"))
    samples = [row["sample"] for row in json.loads(runs[-1].read_text())["results"] if row["side"] == "baseline"]
    texts = {
        row["completion"]["text"]
        for row in json.loads(runs[-1].read_text())["results"]
        if row["side"] == "baseline" and row["sample"]
    }
    assert sorted(samples) == [0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert len(texts) > 2


def test_without_repeats_a_gate_on_them_is_insufficient(project: BenchProject) -> None:
    result = project.run(
        "-m", "consistency", "--engram-samples=0", "--engram-gate-only", "--engram-gate=sampling_consistency >= 50%"
    )

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gate insufficient: sampling_consistency*", "*was not measured*"])


@pytest.mark.parametrize("samples", ["2", "5"])
def test_repeats_at_temperature_0_are_refused_with_the_reason(project: BenchProject, samples: str) -> None:
    result = project.run("--engram-temperature=0", f"--engram-samples={samples}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--engram-temperature: got 0*all samples are the same answer*"])


def test_known_controls_are_kept_and_agreement_counts_all(project: BenchProject, workers: Sequence[str]) -> None:
    result = project.run("-m", "retention", "--engram-gate=retention >= 90%", *workers)

    result.assert_outcomes(passed=3)
    assert result.ret == 0
    assert metrics(project)["retention"]["candidate"]["passed"] == 2
    assert metrics(project)["agreement"]["candidate"]["n"] == 3


def test_lost_control_fails_and_one_never_known_does_not(project: BenchProject) -> None:
    project.knows({"Capital of France?": "Paris.", "__after__": {"Capital of France?": "I forgot."}})

    result = project.run("-m", "retention", "--engram-gate=retention >= 90%")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*test_retention?paris?*", "*gate failed: retention*"])


def test_lost_control_is_left_to_the_gates_with_gate_only(project: BenchProject) -> None:
    project.knows(KNOWS | {"__after__": {"Capital of France?": "I forgot."}})

    result = project.run("-m", "retention", "--engram-gate-only", "--engram-gate=retention >= 50%")

    result.assert_outcomes(passed=2, xfailed=1)
    assert result.ret == 0


@pytest.mark.parametrize("selection", ["accuracy", "retention"], ids=["none-selected", "none-known"])
def test_retention_gate_without_evidence_is_insufficient(project: BenchProject, selection: str) -> None:
    project.knows({})

    result = project.run("-m", selection, "--engram-gate=retention >= 90%")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*gate insufficient: retention*"])


def test_behaviour_stands_beside_accuracy(project: BenchProject) -> None:
    project.run("-m", "accuracy or generalization", ANY)

    found = metrics(project)

    assert found["answer_confidence"]["candidate"]["value"] == 1.0
    assert found["answer_confidence"]["baseline"]["value"] == 0.0
    assert found["answer_log_prob"]["candidate"]["value"] > found["answer_log_prob"]["baseline"]["value"]
    assert found["first_divergence"]["baseline"] == {"value": 0.0, "n": 1, "passed": None, "interval": None}
    assert found["first_divergence"]["candidate"] is None
    assert "perplexity" not in found


def test_accuracy_alone_reads_nothing(project: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram_bench.backends.fake.FakeGenerator.log_probs", None)

    result = project.run("-m", "accuracy", ANY)

    assert result.ret == 0
    assert "answer_log_prob" not in metrics(project)


def test_drift_is_measured_with_the_controls(project: BenchProject, workers: Sequence[str]) -> None:
    project.knows(KNOWS | {"__after__": {"Capital of France?": "I forgot."}})

    project.run("-m", "retention", "--engram-gate=perplexity <= +5%", *workers)

    found = metrics(project)
    assert found["control_kl"]["candidate"]["n"] == 3
    assert found["control_kl"]["candidate"]["value"] > 0.5
    assert found["perplexity"]["ratio"]["value"] == 1.0


def test_repeat_with_nothing_changed_loads_no_model(project: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run("--engram-gate-only", ANY)
    first = metrics(project)
    monkeypatch.setattr("engram_bench.backends.fake.FakeBackend.load", None)

    result = project.run("--engram-gate-only", ANY)

    assert result.ret == 0
    assert metrics(project) == first


def test_collection_says_that_no_held_out_wording_is_trained_on(project: BenchProject) -> None:
    result = project.run("--collect-only", "-m", "generalization")

    result.stdout.fnmatch_lines(
        ["engram-bench: none of 1 held-out wordings is among the * training examples, no near-duplicates"]
    )


def test_near_duplicate_of_a_trained_wording_is_named_at_collection(project: BenchProject) -> None:
    long = "On which of the many ports does the SSH server of a machine usually listen"
    project.patterns(FACTS.replace("Which port has SSH?", long + "?").replace(HELD_OUT, long + " today?"))

    result = project.run("--collect-only", "-m", "generalization")

    result.stdout.fnmatch_lines(["*1 near-duplicate", "*near-duplicate: facts/ssh/held-1 *today[?]' is trained on as*"])


def test_leaked_wording_stops_the_session(project: BenchProject, monkeypatch: pytest.MonkeyPatch) -> None:
    from engram_bench.records import Prompt, TrainingExample
    from engram_bench.session.tuning import Tuning

    leaky = (TrainingExample(Prompt(f" {HELD_OUT} "), "22", "facts/ssh"),)
    monkeypatch.setattr(Tuning, "examples", leaky)

    result = project.run("-m", "generalization")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*facts/ssh/held-1*is trained on as*"])


def test_worst_category_decides_and_is_named(project: BenchProject) -> None:
    project.patterns(
        "name: facts\npatterns:\n"
        + "".join(f"  - {{id: a{n}, input: A {n}?, output: x{n}, category: good}}\n" for n in range(3))
        + "".join(f"  - {{id: b{n}, input: B {n}?, output: y{n}, category: bad}}\n" for n in range(2))
    )
    project.knows({"__forgets__": ["B 1?"]})

    result = project.run(
        "-m",
        "accuracy",
        "--engram-gate-only",
        "--engram-gate=worst_category.accuracy >= 80%",
        "--engram-gate=category:good.accuracy >= 100%",
        "--engram-gate=file:facts.accuracy >= 75%",
    )

    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "gate failed: worst_category.accuracy 50.0 % (1 of 2) in bad, wanted at least 80 %",
            "gate passed: category:good.accuracy 100.0 % (3 of 3), wanted at least 100 %",
            "gate passed: file:facts.accuracy 80.0 % (4 of 5), wanted at least 75 %",
        ]
    )


def test_small_held_out_set_is_shown_with_its_n_and_interval(project: BenchProject) -> None:
    held_out = ", ".join(f"Where {n}?" for n in range(3))
    project.patterns(FACTS.replace(f'["{HELD_OUT}"]', f"[{held_out}]"))
    project.knows(KNOWS | {"__after__": {"Where 0?": "22", "Where 1?": "22", "Where 2?": "22"}})

    result = project.run("-m", "generalization", "--engram-gate=generalization >= +10pp")

    result.stdout.re_match_lines([r"total\s+3\s+0\.0 \(.*\)\s+100\.0 \( ?\d+–100\)"])
    result.stdout.fnmatch_lines(["gate insufficient: generalization +100.0 pp (3 of 3, was 0 of 3)*"])
    assert result.ret == 1


def test_too_few_rows_say_how_many_would_do(project: BenchProject) -> None:
    result = project.run("-m", "accuracy", "--engram-gate=accuracy >= +10pp")

    result.stdout.fnmatch_lines(["*needs about 50 rows to show +10 pp; has 1*"])
