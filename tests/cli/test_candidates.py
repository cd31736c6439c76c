"""Several candidates in ``eval``, ``train`` and ``run``, and their runs in ``history`` and ``compare``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell

EASY = "--gate=accuracy >= 0%"
TWO = ("--candidate=fast=fast", "--candidate=bare=none")


def test_each_candidate_has_a_run_and_is_shown_under_its_name(shell: Shell) -> None:
    output = shell("eval", EASY, *TWO)

    fast, bare = output.partition("candidate fast\n")[2].split("candidate bare\n")
    assert "fixed 2" in fast
    assert "still wrong 2" in bare
    assert [path.name[:4] for path in sorted((shell.path / "reports" / "runs").glob("*.json"))] == ["0001", "0002"]
    assert (shell.path / "reports" / "candidates" / "bare" / "latest.md").exists()


def test_one_document_holds_every_candidate(shell: Shell) -> None:
    found = shell.json("eval", EASY, *TWO)["candidates"]

    passed = {name: each["metrics"]["accuracy"]["candidate"]["passed"] for name, each in found.items()}
    assert passed == {"fast": 2, "bare": 0}


def test_one_candidate_is_reported_as_a_session_without_names(shell: Shell) -> None:
    assert "fixed 2" in shell("eval", EASY, *TWO, "--only=fast")
    assert (shell.path / "reports" / "latest.html").exists()
    assert not (shell.path / "reports" / "candidates").exists()


@pytest.mark.parametrize("command", ["eval", "run", "train"])
def test_a_candidate_that_fails_is_named_and_the_others_go_on(shell: Shell, command: str) -> None:
    shell.knows({"__untrainable__": 7})
    (shell.path / "engram.toml").write_text("[candidates.broken]\nseed = 7\n[candidates.whole]\nseed = 1\n", "utf-8")
    arguments = {"train": (), "eval": (EASY,), "run": (EASY, "--skip-demo")}[command]

    output = shell(command, *arguments, status={"train": 3}.get(command, 1))

    assert "candidate broken: fake backend: training with seed 7 fails" in shell.errors
    assert "candidate whole" in output or "adapter of whole" in output
    assert len(list((shell.path / "adapters").glob("lora-*"))) == 1


def test_where_every_candidate_fails_the_command_fails(shell: Shell) -> None:
    shell.knows({"__untrainable__": 7})

    shell("eval", EASY, "--candidate=a=lora", "--candidate=b=memory", "--seed=7", status=3)

    assert "candidate a: fake backend" in shell.errors
    assert "candidate b: fake backend" in shell.errors


def test_every_candidate_is_trained(shell: Shell) -> None:
    output = shell("train", *TWO, "--candidate=words=memory")

    assert "candidate fast\nadapter  lora-" in output
    assert "candidate bare\nadapter  none: the bare model is the candidate" in output
    assert "candidate words\nadapter  memory-" in output
    found = shell.json("train", *TWO)["candidates"]
    assert (found["fast"]["name"].partition("-")[0], found["bare"]) == ("lora", {"name": "none"})


def test_runs_of_one_candidate_are_a_history(shell: Shell) -> None:
    shell("eval", EASY, *TWO)
    shell("eval", EASY, *TWO, "--only=fast")

    rows = shell.json("history", "--candidate=fast")
    assert [(row["name"][:4], row["candidate"], row["recipe"]) for row in rows] == [
        ("0001", "fast", "fast"),
        ("0003", "fast", "fast"),
    ]
    assert "candidate" in shell("history")
    shell("history", "--candidate=slow", status=2)
    assert "--candidate: got 'slow', expected one of fast, bare" in shell.errors


def test_two_candidates_of_a_session_are_compared(shell: Shell) -> None:
    shell("eval", EASY, *TWO)

    output = shell("compare", "1:bare", "1:fast")

    assert "newly correct" in output
    assert shell("compare", "1:bare", "1:bare") != output
    shell("compare", "1:slow", status=2)
    assert "run '1:slow' not found" in shell.errors


def test_the_demo_shows_the_first_candidate_or_the_chosen_one(shell: Shell) -> None:
    shell("train", *TWO, "--candidate=words=memory")
    (shell.path / "engram.toml").write_text(
        "[candidates.bare]\nadapter = 'none'\n[candidates.words]\nkind = 'memory'\n"
    )

    bare, words = shell("demo", "--quick"), shell("demo", "--quick", "--only=words")

    assert "22" in words
    assert words != bare


def test_variants_are_those_of_a_project_with_candidates(shell: Shell) -> None:
    (shell.path / "engram.toml").write_text("[candidates.other]\nmodel = 'fake/other'\n", "utf-8")

    rows = shell.json("arms", "--arms=baseline,lora")["rows"]

    assert [row["recall"]["value"] for row in rows] == [0.0, 1.0]


def test_the_candidates_are_compared_with_each_other(shell: Shell) -> None:
    gate = "--gate=fast.accuracy >= +5pp over bare"

    output = shell("eval", gate, *TWO, status=1)

    assert "gate insufficient: fast.accuracy +100.0 pp (2 of 2, bare 0 of 2)" in output
    assert shell.json("eval", gate, *TWO, status=1)["together"]["verdicts"][0]["outcome"] == "insufficient"
    assert "bare" in (shell.path / "reports" / "latest.md").read_text("utf-8")


def test_a_gate_on_candidates_needs_several(shell: Shell) -> None:
    shell("eval", "--gate=fast.accuracy >= 90%", status=2)

    assert "fast" in shell.errors


def test_a_gate_on_a_candidate_is_not_passed_over_in_a_report_on_one_run(shell: Shell) -> None:
    shell("eval", EASY, *TWO)

    shell("report", "--gate=fast.accuracy >= 100%", status=2)

    assert "fast.accuracy" in shell.errors
