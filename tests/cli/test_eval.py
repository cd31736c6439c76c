"""``engram-bench eval``: pytest's questions, runs and reports without pytest."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import Shell
from tests.tiny_models import make_tiny_llama

EASY = "--gate=accuracy >= 0%"


def test_run_is_compared_saved_and_reported(shell: Shell) -> None:
    output = shell("eval", EASY)

    assert "fixed 2" in output
    assert "gate passed: accuracy 100.0 %" in output
    assert len(list((shell.path / "reports" / "runs").glob("0001-*.json"))) == 1
    report = json.loads((shell.path / "reports" / "latest.json").read_text("utf-8"))
    assert report["metrics"]["accuracy"]["difference_pp"] == 100.0
    assert (shell.path / "reports" / "latest.md").exists()


def test_pytest_measures_the_same(shell: Shell) -> None:
    shell.patterns("name: controls\nkind: retention\npatterns: [{input: Hello?, output: Hi}]\n", "controls.yaml")
    shell.knows({"Hello?": "Hi"})
    command = [sys.executable, "-m", "pytest", "patterns", "-q", "-p", "no:cacheprovider"]
    subprocess.run(command, cwd=shell.path, capture_output=True, check=False)
    expected = json.loads((shell.path / "reports" / "latest.json").read_text("utf-8"))

    found = shell.json("eval", EASY)

    assert found["metrics"] == expected["metrics"]
    assert found["ledger"] == expected["ledger"]


def test_guards_are_run_and_reported(shell: Shell) -> None:
    guards = shell.json("eval", EASY)["guards"]

    assert len(guards) == 7
    assert {guard["outcome"] for guard in guards} == {"holds"}


def test_broken_guard_is_status_1(shell: Shell) -> None:
    shell.knows({"__rambles__": True})

    output = shell("eval", EASY, status=1)

    assert "guard broken: facts stops-by-itself" in output


def test_sweep_evaluates_the_checkpoints(shell: Shell) -> None:
    points = shell.json("eval", EASY, "--sweep", "--checkpoints=2", "--steps=4")["sweep"]

    assert [point["step"] for point in points] == [2, 4]


def test_null_control_can_be_asked_for(shell: Shell) -> None:
    guards = shell.json("eval", "--gate=accuracy >= +10pp", "--null-control", status=1)[
        "guards"
    ]  # 2 rows prove nothing

    assert guards[-1]["guard"] == "null-adapter-fails"
    assert guards[-1]["outcome"] == "holds"


def test_bare_model_has_nothing_to_guard(shell: Shell) -> None:
    assert shell.json("eval", EASY, "--adapter=none")["guards"] == []


def test_failed_gate_is_status_1(shell: Shell) -> None:
    shell.knows({"HTTP status code for 'Not Found'?": "404", "Port of SSH?": "22"})

    output = shell("eval", "--gate=accuracy >= +10pp", status=1)

    assert "gate failed: accuracy +0.0 pp" in output


def test_missed_required_pattern_is_status_1(shell: Shell) -> None:
    text = (shell.path / "patterns" / "facts.yaml").read_text("utf-8")
    shell.patterns(text.replace("category: ports", "category: ports\n    required: true"))
    shell.knows({"__forgets__": ["Port of SSH?"]})

    shell("eval", EASY, status=1)

    assert "required and missed: facts/port-ssh" in shell.errors


def test_bare_model_can_be_the_candidate(shell: Shell) -> None:
    report = shell.json("eval", EASY, "--adapter=none")

    assert report["ledger"]["still_wrong"] >= 2
    assert not (shell.path / "adapters").exists()


def test_bad_gate_is_refused_before_anything_is_trained(shell: Shell) -> None:
    shell("eval", "--gate=acuracy >= 1%", status=2)

    assert "acuracy" in shell.errors
    assert not (shell.path / "adapters").exists()


def test_crash_of_the_backend_is_the_environment(shell: Shell) -> None:
    shell.knows({"__crash__": "Port of SSH?"})

    shell("eval", status=3)

    assert "crash at prompt" in shell.errors


@pytest.mark.parametrize(
    ("show", "listed", "hidden"),
    [
        ("broken", "broken, seen prompts (1)", "still wrong, seen prompts"),
        ("misses", "still wrong, seen prompts (1)", "fixed, seen prompts"),
        ("all", "fixed, seen prompts (2)", "nothing"),
    ],
)
def test_show_says_which_cases_are_listed(shell: Shell, show: str, listed: str, hidden: str) -> None:
    shell.patterns("name: more\npatterns: [{input: One?, output: one}, {input: Two?, output: two}]\n", "more.yaml")
    shell.knows({"__wrong__": {"Port of SSH?": "23"}, "Port of SSH?": "22", "__forgets__": ["One?"]})

    output = shell("eval", EASY, "--show", show)

    assert "broken, seen prompts (1)" in output
    assert listed in output
    assert hidden not in output


def test_compare_shows_what_changed_since_an_earlier_run(shell: Shell) -> None:
    shell("eval", EASY)
    shell.knows({"__wrong__": {"Port of SSH?": "23"}})

    output = shell("eval", EASY, "--retrain", "--compare")

    since = output.partition("since run 0001-")[2]
    assert "newly broken, seen prompts (1)" in since
    assert "expected '22', was '22', now '23'" in since


def test_compare_with_a_run_that_is_not_there_is_refused_first(shell: Shell) -> None:
    shell("eval", EASY, "--compare=7", status=2)

    assert "run '7' not found" in shell.errors
    assert not (shell.path / "adapters").exists()


def test_narrow_terminal_is_enough(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    output = shell("eval", EASY)

    assert "gate passed" in output


@pytest.mark.parametrize(("variable", "is_coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_colour_follows_the_variables(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, variable: str, is_coloured: bool
) -> None:
    monkeypatch.setenv(variable, "1")

    output = shell("eval", EASY)

    assert ("\x1b[32mgate passed" in output) is is_coloured


def test_escapes_in_answers_never_reach_the_terminal_raw(shell: Shell) -> None:
    shell.knows({"__wrong__": {"Port of SSH?": "\x1b[2J"}})

    output = shell("eval", "--gate=accuracy >= 10%")

    assert "\x1b" not in output
    assert r"\x1b[2J" in output


def test_an_answer_longer_than_the_default_limit_is_given_whole(shell: Shell) -> None:
    answer = "25 for SMTP, 110 for POP3, 143 for IMAP, 587 for submission"
    shell.patterns(f"name: facts\npatterns:\n  - {{input: Which ports?, output: '{answer}'}}\n")

    report = shell.json("eval", EASY)

    assert report["metrics"]["accuracy"]["candidate"]["passed"] == 1


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (("--adapter=nowhere",), 3, "nowhere: no such folder, expected an adapter"),
        (("--backend=cpu", "--model=nowhere"), 3, "model 'nowhere': no such model"),
        (
            ("--backend=mlx", "--kind=both", "--model=TINY"),
            3,
            "the adapter's kind is 'both', expected one that it trains",
        ),
    ],
    ids=["adapter", "model", "kind"],
)
def test_what_is_sure_to_fail_is_one_error_before_any_question(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], status: int, message: str
) -> None:
    monkeypatch.setattr("engram_bench.backends.registry.unavailable_reason", lambda name, **_: None)
    tiny = make_tiny_llama(shell.path / "tiny")

    shell("eval", *(flag.replace("TINY", str(tiny)) for flag in flags), status=status)

    assert message in shell.errors
    assert len(shell.errors.splitlines()) == 1
    assert not (shell.path / "cache" / "completions.sqlite").exists()


def test_reasoning_is_apart_in_every_report_and_in_the_run(shell: Shell) -> None:
    shell.knows(
        {"Port of SSH?": "<think>Perhaps 22?</think>23", "__wrong__": {"Port of SSH?": "<think>Surely 22</think>24"}}
    )

    output = shell("eval", EASY, "--max-reasoning-tokens=100")

    reports = shell.path / "reports"
    (run,) = (reports / "runs").glob("*.json")
    rows = json.loads(run.read_text("utf-8"))["results"]
    assert {"23", "24"} <= {row["completion"]["text"] for row in rows}
    assert {"Perhaps 22?", "Surely 22"} <= {row["completion"]["reasoning"] for row in rows}
    report = json.loads((reports / "latest.json").read_text("utf-8"))
    assert report["reasoning"]["candidate"]["without_end"] == 0
    assert report["reasoning"]["candidate"]["tokens"] >= len("<think>Surely 22</think>")
    assert "`24` after `Surely 22`" in (reports / "latest.md").read_text("utf-8")
    assert "Surely 22" in (reports / "latest.html").read_text("utf-8")
    assert "reasoning" in output


def test_a_run_from_before_reasoning_was_kept_apart_is_read(shell: Shell) -> None:
    shell("eval", EASY)
    (run,) = (shell.path / "reports" / "runs").glob("*.json")
    text = run.read_text("utf-8")
    assert '"reasoning": "", "reasoning_tokens": 0' in text
    run.write_text(text.replace(', "reasoning": "", "reasoning_tokens": 0', ""), "utf-8")

    assert "accuracy" in shell("report", EASY)
