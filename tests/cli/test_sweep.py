"""``engram-bench sweep``."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("optuna")

from tests.cli.conftest import Shell

CONTROLS = """\
name: controls
kind: retention
patterns:
  - {id: sky, input: Colour of the sky?, output: blue, category: general}
"""
OVER = ("--over=rank=4,8", "--over=learning_rate=1e-4,1e-3")


@pytest.fixture
def prepared(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("COLUMNS", "100")
    shell.patterns(CONTROLS, "controls.yaml")
    shell.knows({"Colour of the sky?": "blue", "__after__": {"What code says a page is missing?": "404"}})
    return shell


def test_a_sweep_says_what_it_tried_and_writes_the_winner(prepared: Shell) -> None:
    output = prepared("sweep", *OVER)

    folder = prepared.path / "reports" / "sweeps" / "sweep"
    recipe = tomllib.loads((folder / "best.toml").read_text("utf-8"))["recipe"]
    assert "4 of 4: rank=8 learning_rate=0.001, generalization 50.0 %" in output
    assert "best: trial 1, rank=4 learning_rate=0.0001: generalization 50.0 % (n 2)" in output
    assert "3 other trials lie inside its interval" in output
    assert (recipe["rank"], recipe["learning_rate"], recipe["steps"]) == (4, 1e-4, 3)
    assert len(json.loads((folder / "trials.json").read_text("utf-8"))) == 4
    assert "| trial |" in " ".join((folder / "trials.md").read_text("utf-8").split())
    assert ElementTree.parse(folder / "plot.svg").getroot().tag.endswith("svg")


def test_the_winner_is_the_recipe_of_its_adapter(prepared: Shell) -> None:
    best = prepared.json("sweep", *OVER)["best"]
    page = prepared.path / "reports" / "sweeps" / "sweep" / "best.toml"

    assert best["adapter"] in prepared("train", f"--recipe={page}")


def test_a_second_sweep_goes_on_from_the_first(prepared: Shell) -> None:
    prepared("sweep", *OVER, "--trials=2")

    assert "1 of 4" not in prepared("sweep", *OVER)
    assert "1 of 4" in prepared("sweep", *OVER, "--restart")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "--over: got none"),
        (("--over=rnk=4,8",), "--over: unknown field 'rnk', expected 'rank'"),
        (("--over=rank=0..8",), "--over: rank is 0, expected a whole number of at least 1"),
        (("--over=rank=4..9999",), "--over: rank is 9999, expected a whole number of at least 1 and at most 1 024"),
        ((*OVER, "--trials=0"), "--trials: got 0, expected at least 1"),
        ((*OVER, "--name=../x"), "--name: got '../x'"),
        ((*OVER, "--objective=max nothing"), "found metric 'nothing'"),
    ],
)
def test_a_mistake_is_found_before_anything_is_trained(prepared: Shell, arguments: tuple[str, ...], error: str) -> None:
    assert error in (prepared("sweep", *arguments, status=2) or prepared.errors)
    assert not (prepared.path / "adapters").exists()


def test_no_recipe_that_passes_the_gates_is_an_exit_status_of_1(prepared: Shell) -> None:
    output = prepared("sweep", "--over=rank=4,8", "--objective=max accuracy where generalization >= 90%", status=1)

    assert "no recipe passes every gate of the objective (2 of 2 trials were measured)" in output
    assert not (prepared.path / "reports" / "sweeps" / "sweep" / "best.toml").exists()


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(prepared: Shell) -> None:
    chance = random.Random(7)
    command = [sys.executable, "-m", "engram_bench", "sweep", "--over=rank=1,2,3,4,5,6,7,8,9,10,11,12", "--json"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    kills = 0
    while True:
        process = subprocess.Popen(command, cwd=prepared.path, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            printed, _ = process.communicate(timeout=chance.uniform(0.8, 3) if kills < 12 else None)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
    trials = json.loads(printed)["trials"]

    assert sorted(trial["changes"]["rank"] for trial in trials) == list(range(1, 13))
    assert len({trial["adapter"] for trial in trials}) == 12
    assert kills > 0
