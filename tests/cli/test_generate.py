"""``engram-bench generate``."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Shell


def test_files_hold_chats_that_end_with_the_answer(shell: Shell) -> None:
    output = shell("generate", "--out", "chat")

    rows = [
        json.loads(line)["messages"]
        for name in ("train", "valid")
        for line in (shell.path / "chat" / f"{name}.jsonl").read_text("utf-8").splitlines()
    ]
    assert {(row[0]["content"], row[-1]["content"]) for row in rows} > {("Port of SSH?", "22")}
    assert f"{len(rows)} examples of 2 patterns" in output


def test_json_counts_what_the_files_hold(shell: Shell) -> None:
    report = shell.json("generate", "--out", "chat", "--valid-share", "0.5")

    lines = (shell.path / "chat" / "valid.jsonl").read_text("utf-8").splitlines()
    assert report["valid"] == {"path": "chat/valid.jsonl", "examples": len(lines)}
    assert report["train"]["examples"] + len(lines) == report["examples"]


@pytest.mark.parametrize("share", ["1", "-0.1", "half"])
def test_share_outside_its_range_is_a_usage_error(shell: Shell, share: str) -> None:
    shell("generate", "--valid-share", share, status=2)

    assert share in shell.errors


def test_folder_that_cannot_be_written_is_the_environment(shell: Shell) -> None:
    (shell.path / "file").touch()

    shell("generate", "--out", "file", status=3)

    assert "file" in shell.errors


def test_missing_pattern_folder_is_named(shell: Shell) -> None:
    shell("generate", "--patterns", "nowhere", status=2)

    assert "nowhere: no such file or folder" in shell.errors


def test_nothing_to_train_on_is_said(shell: Shell) -> None:
    shell.patterns("name: facts\nkind: retention\npatterns: [{input: Hello?}]\n")

    shell("generate", status=2)

    assert "no pattern of kind memory" in shell.errors
