"""``--speed`` of ``engram-bench eval`` and ``run``: the sides that pytest times, timed without pytest."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell

SPEED_FILE = """\
name: speed
kind: speed
prompts: ["Port of SSH?", "HTTP status code for 'Not Found'?"]
num_tokens: 4
rounds: 4
batch_sizes: [2]
"""
EASY = "--gate=accuracy >= 0%"


@pytest.fixture
def timed(shell: Shell, token_clock: None) -> Shell:
    """The project with a speed file; a token takes a millisecond, and an attached adapter doubles that."""
    shell.patterns(SPEED_FILE, "speed.yaml")
    shell.knows({"__token_s__": {"bare": 0.001, "attached": 0.002, "fused": 0.001}})
    return shell


def test_sides_are_timed_and_judged_with_the_cases(timed: Shell) -> None:
    report = timed.json("eval", "--speed", EASY, "--gate=decode_speed >= -50%")

    assert report["metrics"]["accuracy"]["difference_pp"] == 100.0
    assert report["metrics"]["attached_decode_speed"]["ratio"]["value"] == pytest.approx(0.5)
    assert {(side["test"], side["side"]) for side in report["speed"]} >= {
        ("decode_speed", "fused"),
        ("batch_throughput", "candidate"),
        ("load_time", "candidate"),
    }


def test_nothing_is_timed_unless_asked_for(timed: Shell) -> None:
    assert timed.json("eval", EASY)["speed"] == []


def test_a_slower_model_is_status_1(timed: Shell) -> None:
    timed.knows({"__token_s__": {"bare": 0.001, "fused": 0.003}})

    output = timed("run", "--speed", "--skip-demo", EASY, "--gate=decode_speed >= -5%", "--speed-budget=1", status=1)

    assert "gate failed: decode_speed" in output


def test_rounds_are_what_the_option_says(timed: Shell) -> None:
    report = timed.json("eval", "--speed", "--speed-rounds=3", EASY)

    assert {side["rounds"] for side in report["speed"]} == {3}


def test_what_cannot_be_timed_is_named_and_never_a_pass(timed: Shell) -> None:
    timed.patterns(SPEED_FILE.replace("Port of SSH?", "x" * 4100), "speed.yaml")

    report = timed.json("eval", "--speed", EASY, status=1)

    assert "patterns/speed.yaml::test_decode_speed[fused]" in report["unscored"]
    assert "patterns/speed.yaml::test_decode_speed[fused]" in timed.errors
    assert "prompt 1: 4" in timed.errors
    assert [side["test"] for side in report["speed"]] == ["load_time"]


def test_without_a_speed_file_it_is_a_usage_error_before_training(shell: Shell) -> None:
    shell("eval", "--speed", EASY, status=2)

    assert "no pattern file is of kind speed" in shell.errors
    assert not (shell.path / "adapters").exists()
