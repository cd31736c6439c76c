"""Source: what counts as the same Python and the same JSON, and that hostile text is only ever a miss."""

import json as parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.matchers import Matcher, UnusableAnswer
from engram_bench.matchers.source import MAX_SOURCE, json, python

HEADERS = [
    "for i, x in enumerate(items):",
    "if not items:",
    "elif x > 0:",
    "else:",
    "except ValueError as error:",
    "finally:",
    'with open("data.txt") as f:',
    "async with lock:",
    "def f(x):",
    "class A(B):",
    "case [x, *_]:",
    "@property",
    "match command:\n  case 'go':",
    "def f(xs):\n    for x in xs:",
    "while True:  # forever",
]
STATEMENTS = ["a, b = b, a", "return x", "result = await fetch()", "global count", "yield", "break", 'f"{price:.2f}"']

json_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("answer", HEADERS + STATEMENTS)
def test_python_reads_headers_and_statements_that_stand_alone(answer: str) -> None:
    assert python(answer, answer) is True


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[x for x in nums if x%2==0]", "[x for x in nums if x % 2 == 0]"),
        ("d.get('port', 8080)", 'd.get("port", 8080)'),
        ("for (i, x) in enumerate(items):", "for i, x in enumerate(items):"),
        ("for x in y:  # each\n    pass", "for x in y:"),
        ("```python\nnums.sort()\n```", "nums.sort()"),
        ("Sort in place:\n\n```py\nnums.sort()\n```\n\nDone!", "nums.sort()"),
        ("```\nnums.sort()", "nums.sort()"),
        ("`nums.sort()`", "nums.sort()"),
        ("  x = 1\n  y = 2\n", "x = 1; y = 2"),
        ("s[::-1];", "s[::-1]"),
        (r"'\d+'", r"'\\d+'"),
    ],
)
def test_python_takes_the_same_tree_for_the_same(text: str, answer: str) -> None:
    assert python(text, answer) is True


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ("d[k]", "d.get(k)", "found 'd[k]', expected the same syntax tree as 'd.get(k)'"),
        ("for x in ys:", "for x in xs:", "found 'for x in ys:', expected the same syntax tree as 'for x in xs:'"),
        ("1.0", "1", "found '1.0', expected the same syntax tree as '1'"),
        ("You can sort it.", "xs.sort()", "found 'You can sort it.', expected Python like 'xs.sort()'"),
        ("", "xs.sort()", "found '', expected Python like 'xs.sort()'"),
    ],
)
def test_python_misses(text: str, answer: str, reason: str) -> None:
    assert python(text, answer) == reason


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ('{"b": [1, 2.0], "a": null}', '{"a": null, "b": [1.0, 2]}', True),
        ('```json\n{"ok": true}\n```', '{"ok": true}', True),
        ('Here it is: {"ok": true}. Anything else?', '{"ok": true}', True),
        ('{x} gives {"ok": true}', '{"ok": true}', True),
        ("404", "404", True),
        ('"a"', '"a"', True),
        ('{"ok": 1}', '{"ok": true}', """found '{"ok": 1}', expected the value of '{"ok": true}'"""),
        ('["1"]', "[1]", """found '["1"]', expected the value of '[1]'"""),
        ("[NaN]", "[1]", "found '[NaN]', expected JSON like '[1]'"),
        ("{'ok': True}", '{"ok": true}', """found "{'ok': True}", expected JSON like '{"ok": true}'"""),
        ("yes", "true", "found 'yes', expected JSON like 'true'"),
        ("[1] or [2]", "[2]", "found '[1] or [2]', which holds several JSON values, expected one"),
    ],
)
def test_json_compares_values(text: str, answer: str, reason: str | bool) -> None:
    assert json(text, answer) == reason


@given(json_values)
def test_json_matches_itself_however_it_is_laid_out(value: object) -> None:
    assert json(parser.dumps(value, indent=3), parser.dumps(value, ensure_ascii=False, sort_keys=True)) is True


@given(json_values, json_values)
def test_json_matches_exactly_when_the_values_are_equal(a: object, b: object) -> None:
    is_same = parser.dumps(a, sort_keys=True) == parser.dumps(b, sort_keys=True)

    if is_same:
        assert json(parser.dumps(a), parser.dumps(b)) is True
    elif type(a) is not type(b) and not {type(a), type(b)} <= {int, float}:
        assert json(parser.dumps(a), parser.dumps(b)) is not True


@given(st.text())
@pytest.mark.parametrize(("matcher", "answer"), [(python, "xs.sort()"), (json, "[1]")], ids=["python", "json"])
def test_any_text_is_a_hit_or_a_miss_and_never_a_crash(matcher: Matcher, answer: str, text: str) -> None:
    assert isinstance(matcher(text, answer), bool | str)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 9_000,
        "-" * 9_000 + "1",
        "x" + ".a" * 4_900,
        "1" + "+1" * 4_900,
        "[" * 60_000,
        '{"a":' * 10_000,
        "1" * 60_000,
        "1" * 9_000,
        "0x" + "f" * 9_000,
        "1e" + "9" * 30,
        "[1e" + "9" * 30 + "]",
        "[" * 900 + "]" * 900,
        "\0",
        "\ud800",
        "x = 1\n" * 10_000,
        "```" * 20_000,
        "`" * 30_000 + "\n" + "`" * 30_000,
    ],
    ids=lambda text: f"{text[:8]!a}x{len(text)}",
)
@pytest.mark.parametrize(("matcher", "answer"), [(python, "xs.sort()"), (json, "[1]")], ids=["python", "json"])
def test_hostile_text_is_a_miss(matcher: Matcher, answer: str, text: str) -> None:
    assert str(matcher(text, answer)).startswith("found ")


@pytest.mark.parametrize(
    ("matcher", "answer", "problem"),
    [
        (python, "for x in", "answer 'for x in' is not Python: "),
        (python, "x" * (MAX_SOURCE + 1), "is not Python: 10001 characters, expected at most 10000"),
        (python, "# type: ignore", "answer '# type: ignore' is not Python: it has no code"),
        (json, "{ok: true}", "answer '{ok: true}' is not JSON: "),
        (json, "NaN", "answer 'NaN' is not JSON: NaN is not JSON"),
    ],
    ids=["broken", "long", "comment", "keys", "nan"],
)
def test_an_answer_that_is_not_source_says_so(matcher: Matcher, answer: str, problem: str) -> None:
    with pytest.raises(UnusableAnswer, match=problem):
        matcher("", answer)
