from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.door import encodable, printable, printable_lines

any_text = st.text(st.characters(exclude_categories=()), max_size=60)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode, 日本語 and 🙂", "plain text, ünïcode, 日本語 and 🙂"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\x1b[2J\x1b[31mred", r"\x1b[2J\x1b[31mred"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202eb", r"a\u202eb"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("no\u00a0break", r"no\xa0break"),
        ("bell\a", r"bell\x07"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
    ids=["plain", "newline", "ansi", "c1-csi", "bidi", "zero-width", "nbsp", "bell", "surrogate", "empty"],
)
def test_what_a_terminal_would_act_on_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_limit_is_kept_and_marked() -> None:
    assert printable("abcdef", 6) == "abcdef"
    assert printable("abcdefg", 6) == "abcde…"
    assert printable("\n" * 10, 6) == r"\n\n\…"


@given(any_text, st.none() | st.integers(1, 30))
def test_the_result_is_printable_within_the_limit_and_stays_as_it_is(text: str, limit: int | None) -> None:
    shown = printable(text, limit)

    assert shown.isprintable()
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for char in shown)
    assert limit is None or len(shown) <= limit
    assert printable(shown, limit) == shown


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one", ["one"]),
        ("one\ntwo", ["one", "two"]),
        ("one\r\ntwo\tx", ["one", r"two\tx"]),
        ("1\n2\n3", ["1", "2", "3"]),
        ("1\n2\n3\n4\n5", ["1", "2", "3", "…"]),
        ("", ["(empty)"]),
        (" \n", [r"(empty: ' \n')"]),
        ("trailing ", ["trailing "]),
    ],
)
def test_lines_stay_lines_up_to_a_number(text: str, lines: list[str]) -> None:
    assert printable_lines(text, 80, 3) == lines


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "2.8 → 0.1 (65–99) … 日"),
        ("cp1252", "2.8 -> 0.1 (65-99) ~ \\u65e5"),
        ("ascii", "2.8 -> 0.1 (65-99) ~ \\u65e5"),
        ("no-such-encoding", "2.8 -> 0.1 (65-99) ~ \\u65e5"),
    ],
)
def test_a_line_fits_the_encoding_of_its_stream(encoding: str, shown: str) -> None:
    assert encodable("2.8 → 0.1 (65–99) … 日", encoding) == shown


@given(any_text, st.sampled_from(["ascii", "latin-1", "cp437", "utf-8"]))
def test_every_printable_line_can_be_written(text: str, encoding: str) -> None:
    encodable(printable(text), encoding).encode(encoding)
