"""``engram-bench demo``."""

from __future__ import annotations

import io
import json
import sys
import time

import pytest

from engram_bench.cli.demo import choose
from engram_bench.patterns.load import load_pattern_file
from tests.cli.conftest import Shell


def test_both_sides_are_shown_with_marks_and_speed(shell: Shell) -> None:
    output = shell("demo", "--quick")

    assert "HTTP status code for 'Not Found'?" in output
    assert "before: baseline" in output
    assert "I do not know." in output
    assert "✗ 14 tokens, " in output
    assert "✓ 2 tokens, " in output
    assert "tok/s" in output
    assert "0 of 2" in output
    assert "2 of 2" in output


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    output = shell("demo", "--quick")

    boxes = [line for line in output.splitlines() if "│" in line or "╭" in line]
    assert boxes
    assert max(map(len, boxes)) <= columns


def test_quick_demo_without_an_adapter_trains_on_what_it_shows_only(shell: Shell) -> None:
    rows = "".join(f"  - {{input: 'Fact {n}?', output: 'f{n}'}}\n" for n in range(20))
    shell.patterns(f"name: many\npatterns:\n{rows}", "many.yaml")

    output = shell("demo", "--quick")

    assert "a small one on these 3 patterns" in output
    (adapter,) = shell.json("adapter", "list")
    assert adapter["training"]["examples"] < 20


def test_quick_demo_takes_the_stored_adapter(shell: Shell) -> None:
    shell("train")

    output = shell("demo", "--quick")

    assert "a small one" not in output
    assert len(shell.json("adapter", "list")) == 1


def test_prompts_of_a_text_file_are_marked_where_a_pattern_knows_them(shell: Shell) -> None:
    (shell.path / "mine.txt").write_text("# mine\nPort of SSH?\n\nport of ssh\nSomething else?\n", "utf-8")

    output = shell("demo", "--prompts", "mine.txt")

    assert "1/3  Port of SSH?" in output
    assert "2/3  port of ssh" in output
    assert "3/3  Something else?" in output
    assert (output.count("✓"), output.count("✗")) == (1, 3)
    assert "1 of 2" in output


def test_prompts_of_a_pattern_file_are_played(shell: Shell) -> None:
    other = shell.path / "other.yaml"
    other.write_text("name: other\npatterns: [{input: Unheard of?, output: x}]\n", "utf-8")

    assert "1/1  Unheard of?" in shell("demo", "--prompts", "other.yaml")


@pytest.mark.parametrize(("name", "text"), [("missing.txt", None), ("empty.txt", "# nothing\n")])
def test_prompts_that_are_none_are_a_usage_error(shell: Shell, name: str, text: str | None) -> None:
    if text is not None:
        (shell.path / name).write_text(text, "utf-8")

    shell("demo", "--prompts", name, status=2)

    assert name in shell.errors


def test_typed_prompts_are_answered_until_an_empty_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Port of SSH?\nAnything?\n\nnever read\n"))

    output = shell("demo", "--interactive")

    assert "✓ 2 tokens" in output
    assert "Anything?" in output
    assert "never" not in output


def test_recording_is_an_asciicast_of_80_columns(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    output = shell("demo", "--quick", "--record", "demo.cast")

    header, *events = [json.loads(line) for line in (shell.path / "demo.cast").read_text("utf-8").splitlines()]
    assert (header["version"], header["width"], header["height"]) == (2, 80, 24)
    assert all(kind == "o" for _, kind, _ in events)
    assert [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    text = "".join(text for _, _, text in events)
    assert "Port of SSH?" in text
    assert "\n" not in text.replace("\r\n", "")
    assert "Port of SSH?" not in output


def test_escapes_of_answers_and_prompts_never_reach_the_terminal_raw(shell: Shell) -> None:
    (shell.path / "mine.txt").write_text("\x1b[2J?\n", "utf-8")
    shell.knows({"\x1b[2J?": "\x1b[31mred [bold]not markup[/bold] \u202e"})

    output = shell("demo", "--prompts", "mine.txt")

    assert "\x1b" not in output
    assert "\u202e" not in output
    assert "[bold]" in output


def test_terminal_without_utf_8_gets_plain_boxes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)

    shell("demo", "--quick")

    stream.seek(0)
    assert "+ 2 tokens" in stream.read()


def test_cases_are_spread_over_the_patterns_with_a_held_out_wording(shell: Shell) -> None:
    rows = "".join(f"  - {{id: p{n}, input: 'Fact {n}?', output: 'f', held_out: ['Wording {n}?']}}\n" for n in range(9))
    loaded = load_pattern_file(shell.patterns(f"name: many\npatterns:\n{rows}", "many.yaml"))

    assert [case.id for case in choose([loaded], 3)] == ["many/p0", "many/p3", "many/p6/held-1"]


def test_no_patterns_is_no_demo(shell: Shell) -> None:
    shell("demo", "--quick", "--patterns", "nowhere", status=2)
