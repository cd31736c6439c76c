"""``engram-bench import``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell

CHAT = (
    '{"messages": [{"role": "user", "content": "Port of SSH?"}, {"role": "assistant", "content": "22"}]}\n'
    '{"messages": [{"role": "user", "content": "a"}]}\n'
)


@pytest.fixture
def data(shell: Shell) -> Shell:
    (shell.path / "train.jsonl").write_text(CHAT, "utf-8")
    return shell


def test_an_import_says_what_was_taken_and_writes_patterns_that_hold(data: Shell) -> None:
    (data.path / "patterns" / "facts.yaml").unlink()

    output = data("import", "train.jsonl")

    assert "format: chat: turns with role and content" in output
    assert "taken: 1 of 2 rows, written to patterns/train.jsonl" in output
    assert "left out: 1 with turns of user (first in train.jsonl:2)" in output
    assert "no mistakes in 1 file" in data("check")


def test_what_is_generated_can_be_imported(data: Shell) -> None:
    data("generate", "--out=made", "--valid-share=0")

    found = data.json("import", "made/train.jsonl", "--out=again.jsonl")

    assert found["taken"] > 0
    assert found["left_out"] == {}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--map=input=q",), "expected input=COLUMN and output=COLUMN"),
        (("--map=inputs=q,output=a",), "expected FIELD=COLUMN once for each"),
        (("--map=input=q,output=a",), "no column 'q', expected one of messages"),
        (("--out=x.yaml",), "expected a file with the suffix .jsonl"),
        (("--limit=0",), "--limit: got 0, expected at least 1"),
    ],
)
def test_a_mistake_is_named(data: Shell, arguments: tuple[str, ...], error: str) -> None:
    data("import", "train.jsonl", *arguments, status=2)

    assert error in data.errors


def test_an_existing_file_is_kept_unless_it_may_be_replaced(data: Shell) -> None:
    data("import", "train.jsonl")

    data("import", "train.jsonl", status=2)
    assert "exists, expected another file, or --force to replace it" in data.errors
    data("import", "train.jsonl", "--force")
