from __future__ import annotations

import json
import traceback
import unicodedata
from base64 import b64encode

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from engram_bench import door
from engram_bench.door import (
    encodable,
    hide,
    hide_credentials,
    inert,
    inert_json,
    printable,
    printable_lines,
    scrubbed,
    without_credentials,
)
from engram_bench.errors import BackendError, PatternFileError

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


# ── commands of CI systems ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error file=a.py::gotcha", r"\x3a:error file=a.py::gotcha"),
        ("  ::add-mask::404", r"  \x3a:add-mask::404"),
        ("::stop-commands::x", r"\x3a:stop-commands::x"),
        ("see ##[error]here", r"see \x23#[error]here"),
        ("##vso[task.setvariable variable=a]b", r"\x23#vso[task.setvariable variable=a]b"),
        ("##teamcity[message]", r"\x23#teamcity[message]"),
        ("::before", "::before"),
        ("patterns/a.yaml::test_accuracy[x]", "patterns/a.yaml::test_accuracy[x]"),
        ("## Heading [1]", "## Heading [1]"),
    ],
    ids=["error", "indented", "stop", "older", "azure", "teamcity", "css", "node-id", "heading"],
)
def test_a_command_of_a_ci_system_is_disarmed(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_json_keeps_its_values_without_a_command() -> None:
    text = json.dumps({"a": "##[error]x", "b": "##", "c": "::error::x"})

    assert "##" not in inert_json(text)
    assert json.loads(inert_json(text)) == json.loads(text)


# ── what cannot be seen ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "char",
    ["\u034f", "\u115f", "\u3164", "\uffa0", "\u2800", "\ufe0f", "\U000e0100", "\u180b", "\u00ad", "\u200e", "\u061c"],
)
def test_a_character_without_a_form_is_written_out(char: str) -> None:
    assert printable(f"4{char}04") == f"4{char.encode('unicode_escape').decode()}04"


def test_python_and_unicode_agree_on_what_is_ignored() -> None:
    """Every "default ignorable" character is written out, whatever Python's own ``isprintable`` says."""
    ignorable = regex.compile(r"\p{Default_Ignorable_Code_Point}")
    planes = (range(0x20000), range(0xE0000, 0xE1000))  # the others have letters of Chinese, or nothing
    chars = [chr(code) for plane in planes for code in plane if ignorable.match(chr(code))]

    assert len(chars) > 4000
    assert [char for char in chars if printable(char) == char] == []


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────

SECRET = "s3cret/of+x=7 q"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """The only secret of this process for the length of a test."""
    monkeypatch.setattr(door, "_secrets", frozenset())
    monkeypatch.setattr(door, "_secret_forms", ())
    hide(SECRET)
    return SECRET


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.upper(),
        "s3cret%2Fof%2Bx%3D7%20q",
        "s3cret%2fof%2bx%3d7%20q",
        "s3cret/of%2Bx%3D7%20q",
        "s3cret%2Fof%2Bx%3D7+q",
        "czNjcmV0L29mK3g9NyBx",
    ],
    ids=["as it is", "upper case", "in a query", "lower hex", "in a path", "in a form", "base64"],
)
def test_a_secret_is_hidden_in_every_form(secret: str, form: str) -> None:
    assert printable(f"a {form} b") == "a HIDDEN b"
    assert inert(f"a\n{form}\nb") == "a\nHIDDEN\nb"
    assert scrubbed(json.dumps({"a": form})) == '{"a": "HIDDEN"}'


def test_a_cut_leaves_no_part_of_a_secret(secret: str) -> None:
    assert printable(f"{'x' * 20}{secret}", 25) == f"{'x' * 20}HIDD…"
    assert secret[:6] not in printable(f"{secret}{'x' * 99}", 10)


@pytest.mark.parametrize("word", ["", None, "abc", "EMPTY", "ollama", "LM-Studio"])
def test_short_words_and_placeholders_are_no_secrets(secret: str, word: str | None) -> None:
    hide(word)

    assert printable(f"the {word} answer") == f"the {word} answer"


def test_user_and_password_of_an_address_are_hidden_apart_and_together(secret: str) -> None:
    hide_credentials("see http://ann:open%40sesame@host:8000/v1 and https://tok3n-of-bob@other")

    assert printable("open@sesame open%40sesame tok3n-of-bob ann") == "HIDDEN HIDDEN HIDDEN ann"
    assert printable(f"Basic {b64encode(b'ann:open@sesame').decode()}") == "Basic HIDDEN"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ann:pw@host:80/v1", "http://host:80/v1"),
        ("http://ann:p@w@host", "http://host"),
        ("http://host/path@2", "http://host/path@2"),
        ("http://host", "http://host"),
    ],
    ids=["pair", "at-sign", "path", "none"],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


# ── errors ──────────────────────────────────────────────────────────────────────────────────────


def test_the_message_of_an_error_is_inert_wherever_it_is_shown() -> None:
    error = PatternFileError("a.yaml", ["line 1: \x1b[2J", "::error::x\n::warning::y"])

    assert str(error) == "a.yaml: line 1: \\x1b[2J\na.yaml: ::error::x\n\\x3a:warning::y"
    assert f"{error}" == str(error)
    assert "\\x1b[2J" in "".join(traceback.format_exception(error))
    assert repr(BackendError("a \u202e b")) == r"BackendError('a \\u202e b')"


def test_the_message_of_an_error_is_bounded() -> None:
    told = str(BackendError("\n".join(["x" * 10_000] * 3000)))

    assert len(told.splitlines()) == 1001
    assert max(map(len, told.splitlines())) == 4000


@given(st.lists(any_text, min_size=1, max_size=4).map("\n".join))
def test_an_inert_text_stays_as_it_is(text: str) -> None:
    assert inert(inert(text)) == inert(text)
