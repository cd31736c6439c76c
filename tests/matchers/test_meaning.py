"""What a text says and whether that is the accepted answer: a table written by hand, by meaning and not by what the code does.

A row that passes although its text says something else is the worst fault a matcher can have.
"""

from __future__ import annotations

import string
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engram_bench.matchers import match

FENCE = "`" * 3

RIGHT: dict[str, list[tuple[str, str]]] = {
    "number": [
        ("1024", "1024"),
        ("It is 1,024 bytes.", "1024"),
        ("1_024", "1024"),
        ("1'024", "1024"),
        ("1’024", "1024"),
        ("1 024", "1024"),
        ("1\u00a0024", "1024"),
        ("1\u2009024", "1024"),
        ("1\u202f024", "1024"),
        ("1{,}024", "1024"),
        ("1\\,024", "1024"),
        ("2 000 000 people", "2000000"),
        ("2,000,000", "2 000 000"),
        ("12 345 678.9", "12345678.9"),
        ("10^6", "1000000"),
        ("10**6", "1000000"),
        ("10^{6}", "1000000"),
        ("10⁶", "1000000"),
        ("10⁻³", "0.001"),
        ("10^-3", "0.001"),
        ("2^10", "1024"),
        ("1.5×10^6", "1500000"),
        ("1.5 x 10^6", "1500000"),
        ("1.5 · 10⁶", "1500000"),
        ("6.02e23", "602000000000000000000000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("3/4", "0.75"),
        ("3⁄4", "0.75"),
        ("¾", "0.75"),
        ("½", "0.5"),
        ("1½", "1.5"),
        ("1 1/2", "1.5"),
        ("2 and ½", "2.5"),
        ("50%", "50"),
        ("10ms", "10"),
        ("3rd", "3"),
        ("5 km", "5"),
        ("$5.", "5"),
        ("-$5", "-5"),
        ("−3", "-3"),
        ("－3", "-3"),
        ("+3", "3"),
        (".5", "0.5"),
        ("2.50", "2.5"),
        ("0xff", "255"),
        ("0b101", "5"),
        ("0o17", "15"),
        ("１０２４", "1024"),
        ("٤٢", "42"),
        ("१२", "12"),
        ("١٬٠٢٤", "1024"),
        ("2 million", "2000000"),
        ("2.5 billion dollars", "2500000000"),
        ("3 thousand", "3000"),
        ("5 dozen eggs", "60"),
        ("x = 5", "5"),
        ("Python 3.11.2 takes 64", "64"),
        ("utf8 has 4", "4"),
        ("404, not 405", "404"),
        ("12345678901234567890123456789012345", "12345678901234567890123456789012345"),
        ("-12345678901234567890123456789012345", "-12345678901234567890123456789012345"),
        ("0.1000000000001", "0.1"),
        ("1.0", "1"),
        ("<think>21 or 22?</think> 22", "22"),
    ],
    "exact": [
        ("404", "404"),
        (" 404.\n", "404"),
        ("Paris", "paris"),
        ('"Paris"', "Paris"),
        ("`git log`", "git log"),
        (f"{FENCE}\ngit log\n{FENCE}", "git log"),
        ("～ｇｉｔ", "~git"),
        ("４０４", "404"),
        ("a\u00a0b", "a b"),
        ("ﬁle", "file"),
        ("e\u0301", "é"),
        ("Wait…", "Wait..."),
        ("Yes!", "yes"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("10⁶", "10⁶"),
        ("<think>not 405</think>404", "404"),
        ("so it is 404</think>\n\n404", "404"),
        ("<reasoning>a</reasoning> b", "b"),
        ("[THINK]x[/THINK]y", "y"),
        ("◁think▷x◁/think▷y", "y"),
        ("<think><think>a</think>b</think>c", "c"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>404", "404"),
        ("<think></think>404", "404"),
        ("<think>", "<think>"),
        ("a <think>b</think>", "a <think>b</think>"),
    ],
    "contains": [
        ("The port is 22.", "22"),
        ("22/tcp", "22"),
        ("in 2024-03-05", "2024"),
        ("(22)", "22"),
        ("22, 443", "443"),
        ("answer: PARIS!", "Paris"),
        ("東京都です", "東京"),
        ("a 3 b", "3"),
        ("top-10", "10"),
        ("<think>Rome?</think> Milan", "Milan"),
    ],
    "prefix": [("404 Not Found", "404"), ("Paris, of course", "Paris"), ("<think>x</think>404 Not Found", "404")],
    "strict": [(" ls -l\n", "ls -l"), ("<think>no</think>\nls -l", "ls -l")],
    "regex": [("404", r"40\d"), (" 404 ", r"40\d"), ("It is 404 here", r"(?s).*404.*"), ("40\\d", r"40\d")],
    "date": [
        ("2024-03-05", "2024-03-05"),
        ("５ March 2024", "2024-03-05"),
        ("2024\u201103\u201105 or March 5, 2024", "2024-03-05"),
        ("March 5,\u00a02024", "2024-03-05"),
    ],
    "json": [
        ('{"port": 22}', '{"port": 22}'),
        ('{ "a":1.0, "b":[1,2] }', '{"b": [1, 2], "a": 1}'),
        ('By rule [2]: {"port": 22}', '{"port": 22}'),
        (f'{FENCE}python\nports = [21, 22]\n{FENCE}\n{FENCE}json\n{{"port": 22}}\n{FENCE}', '{"port": 22}'),
        (f"{FENCE}\n[1]\n{FENCE}\n{FENCE}json\n[2]\n{FENCE}", "[2]"),
        (f'Here:\n{FENCE}json\n{{"a": 1}}\n{FENCE}\nas [1] says', '{"a": 1}'),
        ('It is `{"a": 1}`.', '{"a": 1}'),
        ('{"a": 1} or, shorter, {"a":1}', '{"a": 1}'),
        ('["[", {"a": 1}]', '["[", {"a": 1}]'),
        ("1e2", "100"),
        ('<think>{"a": 2}</think>{"a": 1}', '{"a": 1}'),
    ],
    "python": [
        ("x = [1,2]", "x = [1, 2]"),
        ("print('a')", 'print("a")'),
        (f"{FENCE}python\nx=1\n{FENCE}", "x = 1"),
        (f"{FENCE}bash\nls\n{FENCE}\n{FENCE}python\nx=1\n{FENCE}", "x = 1"),
        ("for x in xs:", "for x in xs :"),
        ("(x)", "x"),
    ],
}

WRONG: dict[str, list[tuple[str, str]]] = {
    "number": [
        ("2 000 000 people", "2"),
        ("1\u00a0024", "1"),
        ("1\u2009024", "1"),
        ("1\u202f024 bytes", "1"),
        ("1'024", "1"),
        ("1’024", "1"),
        ("1{,}024", "1"),
        ("1\\,024", "1"),
        ("10^6", "10"),
        ("10**6", "10"),
        ("10^{6}", "10"),
        ("10⁶", "10"),
        ("10⁶", "106"),
        ("10²", "10"),
        ("10⁻³", "10"),
        ("1.5×10^6", "1.5"),
        ("1.5 x 10^6", "1.5"),
        ("1.5 · 10⁶", "1.5"),
        ("3 × 4", "3"),
        ("3*4", "3"),
        ("2 + 2", "2"),
        ("2 + 2 = 4", "2"),
        ("5 - 3", "5"),
        ("5-3", "5"),
        ("2–3 days", "2"),
        ("2-3 days", "2"),
        ("2...5", "2"),
        ("3/4", "3"),
        ("3⁄4", "3"),
        ("3/4/2024", "3"),
        ("24/7", "24"),
        ("¾", "3"),
        ("1½", "1"),
        ("1 1/2", "1"),
        ("2 and a half", "2"),
        ("12:30", "12"),
        ("16:9", "16"),
        ("3,14", "3"),
        ("1,2,3", "1"),
        ("1,0245", "1"),
        ("1.024,5", "1.024"),
        ("1,00,000", "1"),
        ("3.11.2", "3.11"),
        ("192.168.0.1", "192"),
        ("2 million", "2"),
        ("2.5 billion", "2.5"),
        ("5 dozen", "5"),
        ("5k", "5"),
        ("5K", "5"),
        ("5M users", "5"),
        ("5B", "5"),
        ("5bn", "5"),
        ("3 Mrd.", "3"),
        ("5万", "5"),
        ("2π", "2"),
        ("2 pi", "2"),
        ("√2", "2"),
        ("①", "1"),
        ("Ⅷ", "8"),
        ("10₂", "10"),
        ("x₂", "2"),
        ("-3", "3"),
        ("−3", "3"),
        ("–3", "3"),
        ("－3", "3"),
        ("-$5", "5"),
        ("٤٢", "4"),
        ("１０２４", "1"),
        ("50%", "0.5"),
        ("404 or 405", "405"),
        ("1e3", "1"),
        ("1e1000", "1"),
        ("1e1000", "9"),
        ("0xfg", "0"),
        ("0x1F", "0"),
        ("1__000", "1"),
        ("12345678901234567890123456789012345", "12345678901234567890123456789012346"),
        ("-12345678901234567890123456789012345", "-12345678901234567890123456789012346"),
        ("-12345678901234567890123456789012345", "-12345678901234567890123456789000000"),
        ("18446744073709551616", "18446744073709551615"),
        ("0.100000001", "0.1"),
        ("none", "0"),
        ("", "0"),
        ("<think>22</think>", "22"),
        ("<think>22", "22"),
        ("<think>22 </think> 23", "22"),
        ("5'11", "5"),
        ("100 000 000", "100"),
        ("7 choose 2", "7"),
        ("10 mod 3", "10"),
        ("9" * 5000, "9"),
        ("10^99999", "10"),
        ("10^9999", "10"),
    ],
    "exact": [
        ("10⁶", "106"),
        ("x²", "x2"),
        ("H₂O", "H2O"),
        ("½", "1⁄2"),
        ("ℝ", "R"),
        ("①", "1"),
        ("Ⅷ", "VIII"),
        ("㎏", "kg"),
        ("™", "TM"),
        ("in Maßen", "in Massen"),
        ("405", "404"),
        ("404 405", "404"),
        ("-404", "404"),
        ("<think>404</think>", "404"),
        ("<think>404", "404"),
        ("404 <think>or", "404"),
        ("404</think>405", "404"),
        ("<think>a</think>404<think>b", "404"),
        ("", "404"),
        ("…", "404"),
        ("<|channel|>analysis<|message|>404", "404"),
        ("<thinking>404</thinking>", "404"),
        ("[THINK]404[/THINK]", "404"),
        ("4 04", "404"),
        ("4.04", "404"),
    ],
    "contains": [
        ("<think>Rome or Milan?</think>\nI do not know", "Rome"),
        ("Rome or", "Milan"),
        ("about 2³ of them", "23"),
        ("about 2³ of them", "2"),
        ("10⁶", "10"),
        ("10⁶", "106"),
        ("10^6", "10"),
        ("10**6", "10"),
        ("14", "4"),
        ("4.5", "4"),
        ("4,500", "4"),
        ("4 500", "4"),
        ("4 500", "500"),
        ("4,500", "500"),
        ("1'024", "1"),
        ("1'024", "024"),
        ("1{,}024", "1"),
        ("x4", "4"),
        ("is -3", "3"),
        ("-3", "3"),
        ("3/4", "3"),
        ("3/4", "4"),
        ("12:30", "12"),
        ("12:30", "30"),
        ("½", "1"),
        ("Parisian", "Paris"),
        ("H₂O", "H2O"),
        ("ℝ", "R"),
        ("maßen", "massen"),
        ("１４", "4"),
        ("<think>22", "22"),
    ],
    "prefix": [
        ("10⁶ of them", "10"),
        ("10^6", "10"),
        ("4,500", "4"),
        ("4 500", "4"),
        ("404s", "404"),
        ("<think>404 Not Found</think>405", "404"),
        ("3/4", "3"),
        ("not 404", "404"),
    ],
    "strict": [
        ("LS -l", "ls -l"),
        ("ls  -l", "ls -l"),
        ("ls -l.", "ls -l"),
        ("<think>ls -l</think>", "ls -l"),
        ("ﬁle", "file"),
    ],
    "regex": [
        ("The code is 404.", r"40\d"),
        ("4040", r"40\d"),
        ("404 or 405", r"40\d"),
        ("<think>404</think>", r"40\d"),
        ("", r"40\d"),
        ("405", r"404|40[123]"),
    ],
    "date": [
        ("2024-03-06", "2024-03-05"),
        ("2024-03-0⁵", "2024-03-05"),
        ("2024-0³-05", "2024-03-05"),
        ("05.03.24", "2024-03-05"),
        ("03/05/2024", "2024-03-05"),
        ("5 March", "2024-03-05"),
        ("<think>2024-03-05</think>", "2024-03-05"),
        ("120240305", "2024-03-05"),
        ("2024-02-30", "2024-03-01"),
    ],
    "json": [
        ('{"port": 23}', '{"port": 22}'),
        ('{"a": 1} or {"a": 2}', '{"a": 1}'),
        (f'{FENCE}json\n{{"a": 1}}\n{FENCE}\n{FENCE}json\n{{"a": 2}}\n{FENCE}', '{"a": 1}'),
        ('{"a": {"port": 22}}', '{"port": 22}'),
        ('{"a": {"port": 22}', '{"port": 22}'),
        ('[{"port": 22}', '{"port": 22}'),
        ('[{"port": 22}]', '{"port": 22}'),
        ("{'a': {\"port\": 22}}", '{"port": 22}'),
        ('{"a": 1, "a": 2}', '{"a": 2}'),
        ('{"a": "1"}', '{"a": 1}'),
        ('{"a": true}', '{"a": 1}'),
        ('{"a": 1, "b": 2}', '{"a": 1}'),
        ("[1, 2]", "[2, 1]"),
        ('{"a": 10⁶}', '{"a": 106}'),
        ('{"a": 1e400}', '{"a": 1e500}'),
        ('{"a": NaN}', '{"a": null}'),
        ("null", "false"),
        ("0", "false"),
        ('<think>{"a": 1}</think>', '{"a": 1}'),
        ('<think>{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        ('{"a": 12345678901234567890123456789012345}', '{"a": 12345678901234567890123456789012346}'),
    ],
    "python": [
        ("x = 1e400", "x = 1e500"),
        ("x = 1e400", "x = 1e400 * 2"),
        ("x = -1e400", "x = -1e500"),
        ("x = 1e400j", "x = 1e500j"),
        ("x = [2, 1]", "x = [1, 2]"),
        ("x = 1", "x = 1.0"),
        ("x = True", "x = 1"),
        ("y = 1", "x = 1"),
        ("x == 1", "x = 1"),
        ("# x = 1", "x = 1"),
        ("", "x = 1"),
        ("x = 1\ny = 2", "x = 1"),
        ("x = '1'", "x = 1"),
        ("<think>x = 1</think>", "x = 1"),
        ("a - b", "b - a"),
        ("not x", "x"),
        ("x = 0.1", "x = 0.2"),
        ("for x in ys:", "for x in xs:"),
    ],
}


def rows(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str, str]]:
    return [(name, text, answer) for name, pairs in table.items() for text, answer in pairs]


@pytest.mark.parametrize(("name", "text", "answer"), rows(RIGHT), ids=lambda value: value[:24])
def test_a_text_that_says_the_answer_passes(name: str, text: str, answer: str) -> None:
    assert match(name, text, (answer,)).passed


@pytest.mark.parametrize(("name", "text", "answer"), rows(WRONG), ids=lambda value: value[:24])
def test_a_text_that_says_something_else_never_passes(name: str, text: str, answer: str) -> None:
    assert not match(name, text, (answer,)).passed


def test_the_table_is_large_enough_to_mean_something() -> None:
    assert len(rows(RIGHT)) + len(rows(WRONG)) >= 300


SEPARATORS = [",", "_", "'", "’", " ", "\u00a0", "\u2009", "\u202f", "{,}", "\\,"]


@given(st.integers(0, 10**40), st.sampled_from(SEPARATORS), st.sampled_from(["", "-", "−"]))
def test_a_grouped_number_is_read_whole(value: int, separator: str, sign: str) -> None:
    text = sign + f"{value:,}".replace(",", separator)

    assert match("number", text, (str(-value if sign else value),)).passed


@given(st.integers(0, 10**12), st.sampled_from(SEPARATORS), st.integers(-(10**12), 10**12))
def test_another_number_never_passes_however_it_is_grouped(value: int, separator: str, other: int) -> None:
    assume(value != other)
    text = f"{value:,}".replace(",", separator)

    assert not match("number", f"It is {text} in all", (str(other),)).passed


@given(st.integers(2, 99), st.integers(2, 20), st.sampled_from(["{}^{}", "{}**{}", "{}^{{{}}}"]), st.integers(0, 10**6))
def test_a_power_is_its_value_and_no_other(base: int, exponent: int, form: str, other: int) -> None:
    text = form.format(base, exponent)
    assume(other != base**exponent)

    assert match("number", text, (str(base**exponent),)).passed
    assert not match("number", text, (str(other),)).passed


@given(st.integers(0, 10**6), st.integers(1, 999), st.integers(0, 10**6))
def test_a_fraction_is_its_value_and_no_other(top: int, bottom: int, other: int) -> None:
    assume(Fraction(top, bottom) != other)

    assert match("number", f"{top}/{bottom}", (f"{top}/{bottom}",)).passed
    assert not match("number", f"{top}/{bottom}", (str(other),)).passed


DIGITS = [chr(c) for c in (0x660, 0x966, 0xFF10, 0x1D7CE)]
"""The zero of some scripts; the last one is of mathematical bold."""


@given(st.integers(0, 10**20), st.sampled_from(DIGITS), st.integers(0, 10**20))
def test_digits_of_every_script_are_digits(value: int, zero: str, other: int) -> None:
    assume(value != other)
    text = "".join(chr(ord(zero) + int(digit)) for digit in str(value))

    assert match("number", text, (str(value),)).passed
    assert not match("number", text, (str(other),)).passed


SUPER = str.maketrans(string.digits, "⁰¹²³⁴⁵⁶⁷⁸⁹")


@pytest.mark.parametrize("name", ["exact", "prefix", "contains"])
@given(st.integers(1, 999), st.integers(1, 999))
def test_a_raised_digit_is_no_digit(name: str, base: int, exponent: int) -> None:
    assert not match(name, f"{base}{str(exponent).translate(SUPER)}", (f"{base}{exponent}",)).passed


@given(st.text("abc <>/think\n", max_size=40), st.sampled_from(["exact", "contains", "prefix", "strict"]))
def test_what_stands_in_reasoning_is_never_the_answer(thought: str, name: str) -> None:
    assume("think>" not in thought)

    assert not match(name, f"<think>{thought} 404 {thought}</think> 405", ("404",)).passed
    assert not match(name, f"<think>{thought} 404", ("404",)).passed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, JSON)
def test_another_json_value_never_passes(a: object, b: object) -> None:
    import json

    assume(json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True))
    text, answer = json.dumps(a), json.dumps(b)

    assert not match("json", text, (answer,)).passed
    assert not match("json", f"{FENCE}json\n{text}\n{FENCE}", (answer,)).passed
