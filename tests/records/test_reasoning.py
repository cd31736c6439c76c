"""Where reasoning ends, and what is still open."""

from __future__ import annotations

import pytest

from engram_bench.records.reasoning import open_marks, reasoning_end, split_reasoning


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("22", None),
        ("<think>21 or 22?", None),
        ("<think>21 or 22?</think>", 24),
        ("<think>a</think> 22 <think>b</think>", 16),
        ("<think>a <think>b</think> c", None),
        ("21 or 22?</think> 22", 17),
        ("The mark <|end|> alone says nothing", None),
        ("<|channel|>analysis<|message|>hm<|end|>22", 39),
    ],
    ids=["none", "open", "closed", "first of two", "nested", "begun in the prompt", "shared mark", "channel"],
)
def test_first_reasoning_ends_after_its_closing_mark(text: str, end: int | None) -> None:
    assert reasoning_end(text) == end


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("<|im_start|>assistant\n", ("", "")),
        ("<|im_start|>assistant\n<think>\n", ("<think>", "</think>")),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ("", "")),
        ("[THINK]", ("[THINK]", "[/THINK]")),
    ],
    ids=["none", "open", "switched off", "other marks"],
)
def test_marks_that_a_template_leaves_open(text: str, marks: tuple[str, str]) -> None:
    assert open_marks(text) == marks


def test_what_is_open_is_no_answer() -> None:
    assert split_reasoning(open_marks("<think>\n")[0] + "it must be Rome").answer is None
