from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from engram_bench.records import Estimate, Measure
from engram_bench.reporting.json_report import json_report, json_text
from engram_bench.scoring.comparison import compare, compare_runs
from tests.made_up import big_comparison, big_run, big_verdicts, both, run_of


@cache
def big_report() -> dict[str, Any]:
    return json_report(big_run(), big_comparison(), big_verdicts())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 1),
        ("run", "0007-20261121-8f1d427"),
        ("provenance.model", "smollm2-135m-instruct"),
        ("provenance.backend", "cpu"),
        ("provenance.adapter", "lora-3f9a01bc22de"),
        ("provenance.commit", "8f1d427"),
        ("provenance.machine", "Intel Xeon Platinum 8488C, 2 cores, Linux 6.1"),
        ("provenance.command", "pytest -m accuracy"),
        ("provenance.versions", {"torch": "2.13.0", "transformers": "5.17.0"}),
        ("metrics.accuracy.baseline.passed", 1),
        ("metrics.accuracy.candidate.n", 140),
        ("metrics.accuracy.candidate.passed", 132),
        ("metrics.accuracy.candidate.value", 132 / 140),
        ("metrics.accuracy.difference_pp", 93.571428571),
        ("metrics.accuracy.fixed", 132),
        ("metrics.answer_tokens.difference_pp", None),
        ("metrics.decode_speed.ratio.interval", [0.964, 1.012]),
        ("categories.dictionaries.accuracy.baseline.passed", 1),
        ("categories.dictionaries.accuracy.difference_pp", 75.0),
        ("files.facts.generalization.candidate.n", 80),
        ("ledger.splits.seen", {"fixed": 132, "broken": 1, "still_right": 0, "still_wrong": 7}),
        ("ledger.cases.facts/ports-7", "still_wrong"),
        ("ledger.cases.controls/control-7", "broken"),
        ("training.steps", 210),
        ("training.examples", 412),
        ("training.loss_start", 2.8194),
        ("training.loss_end", 0.0312),
        ("training.seconds", 98.23),
        ("timing", {"train_s": 98.4, "baseline_s": 14.2, "candidate_s": 9.1, "total_s": 124.0}),
        ("unscored", []),
    ],
)
def test_a_figure_is_where_readers_look_for_it(path: str, value: object) -> None:
    found: Any = big_report()
    for key in path.split("."):
        found = found[key]

    assert found == value


def test_the_interval_of_a_rate_is_a_pair() -> None:
    assert big_report()["metrics"]["accuracy"]["candidate"]["interval"] == pytest.approx([0.891, 0.971], abs=1e-3)


def test_verdicts_hold_gate_outcome_measured_wanted_and_reason() -> None:
    assert big_report()["verdicts"][1] == {
        "gate": "consistency >= +20pp",
        "outcome": "not_measured",
        "measured": "",
        "wanted": "at least +20 pp",
        "reason": "consistent_accuracy was not measured",
        "p_value": None,
    }


def test_ledger_counts_are_those_of_its_cases() -> None:
    ledger = big_report()["ledger"]
    counts = Counter(ledger["cases"].values())

    assert {state: ledger[state] for state in ("fixed", "broken", "still_right", "still_wrong")} == counts
    for state, count in counts.items():
        assert sum(split[state] for split in ledger["splits"].values()) == count


def test_the_text_reads_back_as_the_report() -> None:
    text = json_text(big_run(), big_comparison(), ())

    assert json.loads(text) == json_report(big_run(), big_comparison(), ())
    assert text.endswith("}\n")


def test_numbers_that_json_lacks_are_null() -> None:
    run = run_of(measures=(Measure("perplexity", "ppl", Estimate(float("nan"), 1), Estimate(float("inf"), 1)),))

    report = json.loads(json_text(run, compare(run), ()))

    assert report["metrics"]["perplexity"]["baseline"]["value"] is None
    assert report["metrics"]["perplexity"]["candidate"]["value"] is None


def test_a_run_without_training_says_so() -> None:
    run = run_of(both("facts/a", False, True))

    assert json_report(run, compare(run), ())["training"] is None


def test_lone_surrogates_do_not_break_the_file() -> None:
    run = run_of(both("facts/\ud800", False, True))

    json_text(run, compare(run), ()).encode("utf-8")


def test_two_runs_name_the_cases_of_only_one() -> None:
    old, new = run_of(both("facts/gone", False, True)), run_of(both("facts/new", False, True))

    report = json_report(new, compare_runs(old, new), ())

    assert (report["added"], report["removed"]) == (["facts/new"], ["facts/gone"])
