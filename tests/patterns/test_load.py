import json
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engram_bench.errors import PatternFileError
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.load import check_across, load_pattern_file, load_pattern_files
from engram_bench.records import PatternSet, SourceLine, SpeedPlan

MATCHERS = ("contains", "exact", "json", "number", "python", "strict")
FACTS = """\
name: http_status
description: Status codes.
version: "1.1"
match: number
system: Answer in one word.
max_tokens: 8
min_consistency: 0.5
patterns:
  - id: not-found
    input: "HTTP status code for 'Not Found'?"
    output: "404"
    accept: ["404 Not Found"]
    category: http_codes
    wordings: ["Which status means 'Not Found'?"]
    held_out:
      - What HTTP code says a page is missing?
    match: exact
    max_tokens: 16
    required: true
    min_consistency: 0.9
    system: Be brief.
  - input: Default port of SSH?
    output: "22"
"""


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "facts.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def pattern_file(entries: str, *, header: str = "name: facts", name: str = "facts.yaml") -> Path:
    """A YAML file whose patterns begin on line 3."""
    return write(f"{header}\npatterns:\n{textwrap.indent(textwrap.dedent(entries).strip(), '  ')}\n", name)


def json_lines(*rows: Any, name: str = "facts.jsonl") -> Path:
    return write("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), name)


def mistakes(path: Path) -> tuple[str, ...]:
    with pytest.raises(PatternFileError, match=path.name) as caught:
        load_pattern_file(path, known_matchers=MATCHERS)
    return caught.value.mistakes


def test_a_pattern_keeps_what_it_says_and_takes_the_rest_from_its_file() -> None:
    named, plain = load_pattern_file(write(FACTS), known_matchers=MATCHERS).patterns

    assert (named.id, named.input, named.answers) == (
        "not-found",
        "HTTP status code for 'Not Found'?",
        ("404", "404 Not Found"),
    )
    assert (named.wordings, named.held_out) == (
        ("Which status means 'Not Found'?",),
        ("What HTTP code says a page is missing?",),
    )
    assert (named.category, named.match, named.max_tokens) == ("http_codes", "exact", 16)
    assert (named.required, named.min_consistency, named.system) == (True, 0.9, "Be brief.")
    assert (plain.id, plain.category, plain.match) == (
        "http-status-default-port-of-ssh",
        "http_status",
        "number",
    )
    assert (plain.max_tokens, plain.min_consistency, plain.system) == (8, 0.5, "Answer in one word.")
    assert (named.source, plain.source) == (SourceLine("facts.yaml", 9), SourceLine("facts.yaml", 22))


def test_the_forerunners_files_load_as_they_are() -> None:
    path = write("""\
        name: code
        description: Idioms
        version: 1.0
        examples:
          - input: "Swap a and b"
            output: "a, b = b, a"
            category: idioms
        """)

    pattern_set = load_pattern_file(path)

    assert (pattern_set.name, pattern_set.version, pattern_set.kind) == ("code", "1.0", "memory")
    assert [pattern.id for pattern in pattern_set.patterns] == ["idioms-swap-a-and-b"]


def test_a_speed_file_is_a_plan() -> None:
    path = write("name: speed\nkind: speed\nprompts: [Hello, Bye]\nrounds: 3\nbatch_sizes: [4]\n")

    assert load_pattern_file(path) == PatternSet(
        "speed", "facts.yaml", "speed", speed=SpeedPlan(("Hello", "Bye"), num_tokens=64, rounds=3, batch_sizes=(4,))
    )


def test_a_control_needs_no_output() -> None:
    path = pattern_file("- input: How are you?", header="name: controls\nkind: retention")

    (control,) = load_pattern_file(path).patterns

    assert (control.output, control.answers) == ("", ())


def test_text_is_stripped_and_keeps_inner_lines() -> None:
    path = pattern_file("""\
        - input: "  Two lines?\\t"
          output: |
            first
              second
        """)

    (pattern,) = load_pattern_file(path).patterns

    assert (pattern.input, pattern.output) == ("Two lines?", "first\n  second")


def test_anchors_share_values() -> None:
    path = pattern_file("""\
        - {input: a?, output: "1", accept: &other [one, uno]}
        - {input: b?, output: "2", accept: *other}
        """)

    assert load_pattern_file(path).patterns[1].accept == ("one", "uno")


def test_what_only_looks_like_a_date_is_text() -> None:
    (pattern,) = load_pattern_file(pattern_file("- {input: a?, output: 2024-02-31}")).patterns

    assert pattern.output == "2024-02-31"


def test_a_key_need_not_be_text_to_be_named() -> None:
    assert mistakes(write("name: facts\n? [a]\n: b\n404: c\n"))[:2] == (
        "line 3: unknown key 'a list', expected one of name, description, version, kind, match, system, category, "
        "max_tokens, min_consistency, patterns",
        "line 4: unknown key '404', expected one of name, description, version, kind, match, system, category, "
        "max_tokens, min_consistency, patterns",
    )


def test_jsonl_takes_its_defaults_from_a_header_line() -> None:
    path = json_lines(
        {"name": "codes", "kind": "memory", "match": "number"},
        {"input": "Not found?", "output": "404"},
        "\n",
        {"input": "Created?", "output": "201", "match": "exact"},
    )

    pattern_set = load_pattern_file(path, known_matchers=MATCHERS)

    assert pattern_set.name == "codes"
    assert [(pattern.match, pattern.source.line) for pattern in pattern_set.patterns] == [("number", 2), ("exact", 4)]


def test_jsonl_without_a_header_is_named_after_its_file() -> None:
    path = json_lines({"input": "Not found?", "output": "404"})

    pattern_set = load_pattern_file(path)

    assert (pattern_set.name, pattern_set.patterns[0].category) == ("facts", "facts")


@pytest.mark.parametrize("start", ["\ufeff", "# café\n"], ids=["bom", "accents"])
def test_utf8_is_read_with_and_without_a_mark(start: str) -> None:
    path = write(start + "name: facts\npatterns: [{input: a?, output: é}]\n")

    assert load_pattern_file(path).patterns[0].output == "é"


def test_paths_are_shown_relative_to_the_root(tmp_path: Path) -> None:
    path = tmp_path / write(FACTS, "patterns/facts.yaml")

    assert load_pattern_file(path, root=tmp_path).path == "patterns/facts.yaml"
    assert load_pattern_file(path, root=tmp_path / "patterns").path == "facts.yaml"
    assert load_pattern_file(path, root=tmp_path / "elsewhere").path == path.as_posix()


ONE_MISTAKE = {
    "unknown-key": (
        "- {id: a, input: a?, ouput: x, output: y}",
        "line 3: pattern 'a': unknown key 'ouput', expected 'output'",
    ),
    "missing": ("- {id: a, input: a?}", "line 3: pattern 'a': output is missing, expected text"),
    "empty": (
        '- id: a\n  input: a?\n  output: ""',
        "line 5: pattern 'a': output is '', expected at least one character",
    ),
    "blank": (
        "- {id: a, input: a?, output: '  '}",
        "line 3: pattern 'a': output is '  ', expected at least one character",
    ),
    "null": ("- {id: a, input: a?, output: }", "line 3: pattern 'a': output is empty, expected text"),
    "unquoted-number": (
        "- id: a\n  input: a?\n  output: 0404",
        "line 5: pattern 'a': output is 0404 without quotes, which YAML reads as a number, expected text: \"0404\"",
    ),
    "unquoted-yes": (
        "- {id: a, input: a?, output: yes}",
        "line 3: pattern 'a': output is yes without quotes, which YAML reads as a truth value, expected text: \"yes\"",
    ),
    "unquoted-date": (
        "- {id: a, input: a?, output: 2024-02-29}",
        "line 3: pattern 'a': output is 2024-02-29 without quotes, which YAML reads as a date, expected text: \"2024-02-29\"",
    ),
    "text-for-list": (
        "- {id: a, input: a?, output: x, accept: y}",
        "line 3: pattern 'a': accept is 'y', expected a list",
    ),
    "number-in-list": (
        "- id: a\n  input: a?\n  output: x\n  accept:\n    - y\n    - 7",
        "line 8: pattern 'a': accept 2 is 7 without quotes, which YAML reads as a number, expected text: \"7\"",
    ),
    "list-for-text": ("- {id: a, input: [a?], output: x}", "line 3: pattern 'a': input is a list, expected text"),
    "text-for-bool": (
        "- {id: a, input: a?, output: x, required: 'yes'}",
        "line 3: pattern 'a': required is 'yes', expected true or false",
    ),
    "no-tokens": (
        "- {id: a, input: a?, output: x, max_tokens: 0}",
        "line 3: pattern 'a': max_tokens is 0, expected at least 1",
    ),
    "percent": (
        "- {id: a, input: a?, output: x, min_consistency: 80}",
        "line 3: pattern 'a': min_consistency is 80, expected at most 1",
    ),
    "id-with-slash": (
        "- {id: a/b, input: a?, output: x}",
        "line 3: pattern 'a/b': id is 'a/b', expected letters, digits, '.', '_' and '-'",
    ),
    "escape-code": (
        '- {id: a, input: a?, output: "x\\e[2J"}',
        r"line 3: pattern 'a': output is 'x\x1b[2J', expected no control characters but newline and tab",
    ),
    "matcher": (
        "- {id: a, input: a?, output: x, match: exakt}",
        "line 3: pattern 'a': match is 'exakt', expected 'exact'",
    ),
    "accept-only": (
        "- {id: a, input: a?, output: , accept: [x]}",
        "line 3: pattern 'a': output is empty, expected text",
    ),
    "not-a-mapping": ("- just text", "line 3: pattern 1: 'just text', expected a mapping"),
    "named-by-input": (
        "- {input: a?, output: x, oops: 1}",
        "line 3: pattern 'a?': unknown key 'oops', expected one of ",
    ),
    "key-twice": (
        "- id: a\n  input: a?\n  output: x\n  output: y",
        "line 6: key 'output' is repeated, expected it once (first on line 5)",
    ),
    "id-twice": (
        "- {id: a, input: a?, output: x}\n- {id: a, input: b?, output: y}",
        "line 4: pattern 'a': id is used again, expected a unique id (first on line 3)",
    ),
    "pattern-twice": (
        "- {input: a?, output: x}\n- {input: a?, output: x}",
        "line 4: pattern 'facts-a': repeats the pattern on line 3, expected each pattern once",
    ),
    "two-answers": (
        "- {id: a, input: Which code?, output: x}\n- {id: b, input: 'which  code', output: y}",
        "line 4: pattern 'b': input 'which  code' is answered 'y' here and 'x' by pattern 'a' (facts.yaml:3), "
        "expected one answer",
    ),
    "own-input-held-out": (
        "- id: a\n  input: Which code?\n  output: x\n  held_out:\n    - Say it!\n    - which code",
        "line 8: pattern 'a': held_out 2 'which code' is trained on by pattern 'a' (facts.yaml:3), "
        "expected a prompt never trained on",
    ),
    "others-wording-held-out": (
        "- {id: a, input: a?, output: x, held_out: [Say it.]}\n- {id: b, input: b?, output: x, wordings: [say it]}",
        "line 3: pattern 'a': held_out 1 'Say it.' is trained on by pattern 'b' (facts.yaml:4), "
        "expected a prompt never trained on",
    ),
}


@pytest.mark.parametrize(("entries", "message"), ONE_MISTAKE.values(), ids=ONE_MISTAKE)
def test_a_mistake_in_a_pattern_names_line_pattern_and_what_was_expected(entries: str, message: str) -> None:
    (found,) = mistakes(pattern_file(entries))

    assert found.startswith(message)


WHOLE_FILES = {
    "empty": ("", "line 1: the file is empty, expected a mapping with 'name' and 'patterns'"),
    "only-comments": ("# nothing\n", "line 1: the file is empty, expected a mapping with 'name' and 'patterns'"),
    "broken": (
        "name: facts\npatterns:\n  - input: a: b\n",
        "line 3: not YAML: mapping values are not allowed in this context",
    ),
    "a-list": ("- a\n- b\n", "line 1: a list, expected a mapping with 'name' and 'patterns'"),
    "no-name": ("patterns: [{input: a?, output: x}]\n", "line 1: name is missing, expected text"),
    "no-patterns": ("name: facts\n", "line 1: no patterns, expected at least one under 'patterns'"),
    "empty-list": ("name: facts\npatterns: []\n", "line 1: no patterns, expected at least one under 'patterns'"),
    "null-list": ("name: facts\npatterns:\n", "line 2: patterns is empty, expected a list of patterns"),
    "mapping": ("name: facts\npatterns: {a: b}\n", "line 2: patterns is a mapping, expected a list of patterns"),
    "typo": ("name: facts\npattern: []\n", "line 2: unknown key 'pattern', expected 'patterns'"),
    "both": (
        "name: facts\npatterns: [{input: a?, output: x}]\nexamples: [{input: b?, output: y}]\n",
        "line 3: both 'patterns' and 'examples', expected one of them",
    ),
    "kind": (
        "name: facts\nkind: memroy\npatterns: [{input: a?, output: x}]\n",
        "line 2: kind is 'memroy', expected 'memory' or 'retention'",
    ),
    "file-matcher": (
        "name: facts\nmatch: fuzzy\npatterns: [{input: a?, output: x}]\n",
        "line 2: match is 'fuzzy', expected one of contains, ",
    ),
    "speed-without-prompts": ("name: speed\nkind: speed\n", "line 1: prompts is missing, expected a list"),
    "speed-with-patterns": (
        "name: speed\nkind: speed\nprompts: [a]\npatterns:\n  - {input: a?, output: x}\n",
        "line 5: a pattern in a file of kind speed, expected only 'prompts'",
    ),
    "control-with-accept-only": (
        "name: c\nkind: retention\npatterns: [{id: a, input: a?, accept: [x]}]\n",
        "line 3: pattern 'a': accept without output, expected the preferred answer as output",
    ),
    "two-documents": ("name: a\n---\nname: b\n", "line 2: a second document, expected one per file"),
    "tag": (
        "name: !!python/name:os.system x\n",
        "line 1: tag 'tag:yaml.org,2002:python/name:os.system', expected plain text",
    ),
    "control-character": ("name: a\nversion: '\x07'\n", "line 2: character U+0007, expected printable text"),
    "deep": ("a: " + "[" * 100_000, "line 1: nested deeper than 16 levels, expected a pattern file"),
    "alias-to-itself": ("name: &a [*a]\n", "line 1: alias *a is inside its own anchor, expected it outside"),
    "unknown-alias": ("name: *a\n", "line 1: alias *a, expected an anchor &a above it"),
}


@pytest.mark.parametrize(("text", "message"), WHOLE_FILES.values(), ids=WHOLE_FILES)
def test_a_mistake_in_a_file_names_the_line_and_what_was_expected(text: str, message: str) -> None:
    (found,) = mistakes(write(text))

    assert found.startswith(message)


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [" + ",".join(["x"] * 10) + "]"]
    lines += [f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 12)]

    (found,) = mistakes(write("\n".join(lines)))

    assert "aliases for too many values, expected at most 10 times the values written" in found


JSON_LINES = {
    "broken": (['{"input": "a?", "output": }\n'], "line 1: not JSON: Expecting value"),
    "number": ([{"input": "a?", "output": 404}], "line 1: pattern 'a?': output is 404, expected text"),
    "list": ([[1, 2], {"input": "a?", "output": "x"}], "line 1: pattern 1: a list, expected a mapping"),
    "key-twice": (['{"input": "a?", "output": "x", "output": "y"}\n'], "line 1: not JSON: key 'output' is repeated"),
    "second-header": (
        [{"name": "a"}, {"name": "b"}, {"input": "a?", "output": "x"}],
        "line 2: pattern 1: input is missing, expected text",
    ),
    "surrogate": (
        ['{"input": "a?", "output": "\\ud800"}\n'],
        r"line 1: pattern 'a?': output is '\ud800', expected text without lone surrogates",
    ),
    "deep": (["[" * 100_000 + "\n"], "line 1: not JSON: nested deeper than 16 levels"),
    "long-line": (
        [{"input": "a" * 2**20, "output": "x"}],
        "line 1: more than 1,048,576 bytes, expected one pattern per line",
    ),
    "empty": ([], "line 1: no patterns, expected at least one under 'patterns'"),
}


@pytest.mark.parametrize(("rows", "message"), JSON_LINES.values(), ids=JSON_LINES)
def test_a_mistake_in_json_lines_names_its_line(rows: list[Any], message: str) -> None:
    assert mistakes(json_lines(*rows))[0].startswith(message)


@pytest.mark.parametrize("name", ["facts.yaml", "facts.jsonl"])
def test_bytes_that_are_no_text_are_an_error_with_their_line(name: str) -> None:
    path = Path(name)
    path.write_bytes(b"# one\n# caf\xe9\n" if name.endswith("yaml") else b'\n{"input": "caf\xe9"}\n')

    assert mistakes(path)[0] == "line 2: byte 0xe9, expected UTF-8 text"


def test_all_mistakes_of_a_file_are_reported_in_order_of_lines() -> None:
    path = pattern_file(
        """\
        - {id: a, input: a?, output: 404, oops: 1}
        - {id: b, input: b?, output: x, held_out: ["c?"]}
        - {id: b, input: c?, output: x, match: fuzzy}
        """,
        header="nam: facts",
    )

    found = mistakes(path)

    assert [mistake.split(":")[0] for mistake in found] == ["line 1"] * 2 + ["line 3"] * 2 + ["line 4"] + ["line 5"] * 2


def test_a_long_list_of_mistakes_is_cut() -> None:
    found = mistakes(json_lines(*[{"prompt": "a"}] * 300))

    assert (len(found), found[-1]) == (101, "and 798 more mistakes")


def test_a_folder_is_no_pattern_file() -> None:
    Path("facts.yaml").mkdir()

    assert mistakes(Path("facts.yaml")) == ("cannot be read (Is a directory), expected a pattern file",)


def test_a_missing_file_is_an_error() -> None:
    assert mistakes(Path("none.yaml")) == ("cannot be read (No such file or directory), expected a pattern file",)


def test_a_huge_yaml_file_is_refused_before_it_is_read() -> None:
    path = Path("huge.yaml")
    with path.open("wb") as file:
        file.truncate(65 * 2**20)

    assert mistakes(path)[0] == "68,157,440 bytes, expected at most 67,108,864: write large sets as .jsonl"


PIECES = st.sampled_from(
    [
        "- ",
        "? ",
        ": ",
        "&a ",
        "*a",
        "!!set ",
        "!x ",
        "|",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        "\\",
        "<<: ",
        "%",
        "---\n",
        "\t",
        "0x1",
    ]
)
TORN = st.builds(
    lambda text, at, cut, piece: text[: at % len(text)] + piece + text[at % len(text) + cut :],
    st.sampled_from([FACTS, '{"name": "a"}\n{"input": "a?", "output": "b"}\n']),
    st.integers(0, 999),
    st.integers(0, 9),
    PIECES | st.text(max_size=3),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("suffix", ["yaml", "jsonl"])
@given(data=TORN | st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_torn_file_loads_or_is_a_pattern_file_error(data: bytes, suffix: str) -> None:
    path = Path(f"torn.{suffix}")
    path.write_bytes(data)

    with suppress(PatternFileError):
        load_pattern_file(path, known_matchers=MATCHERS)


def test_folders_are_searched_and_hidden_files_left_out() -> None:
    for name in ("b.yml", "a.yaml", "sub/c.jsonl", ".hidden/d.yaml", ".e.yaml", "notes.txt", "pattern.schema.json"):
        write("", f"patterns/{name}")

    found = find_pattern_files(["patterns", "patterns/a.yaml"])

    assert [path.as_posix() for path in found] == ["patterns/a.yaml", "patterns/b.yml", "patterns/sub/c.jsonl"]


def test_an_empty_folder_and_a_missing_path_are_errors() -> None:
    Path("empty").mkdir()

    with pytest.raises(PatternFileError, match=r"empty: no pattern files, expected at least one of \*\.yaml, \*\.yml"):
        find_pattern_files(["empty"])
    with pytest.raises(PatternFileError, match="nowhere: no such file or folder, expected pattern files"):
        find_pattern_files(["nowhere"])


def two_files(first: str, second: str) -> tuple[PatternSet, PatternSet]:
    return (
        load_pattern_file(pattern_file(first, name="patterns/a.yaml")),
        load_pattern_file(pattern_file(second, name="patterns/b.yaml")),
    )


ACROSS = {
    "held-out-trained": (
        "- {id: x, input: x?, output: '1', held_out: [Say it.]}",
        "- {id: y, input: say it, output: '1'}",
        "patterns/a.yaml: line 3: pattern 'x': held_out 1 'Say it.' is trained on by pattern 'y' (patterns/b.yaml:3), "
        "expected a prompt never trained on",
    ),
    "two-answers": (
        "- {id: x, input: x?, output: '1'}",
        "- {id: y, input: X, output: '2'}",
        "patterns/b.yaml: line 3: pattern 'y': input 'X' is answered '2' here and '1' by pattern 'x' "
        "(patterns/a.yaml:3), expected one answer",
    ),
}


@pytest.mark.parametrize(("first", "second", "message"), ACROSS.values(), ids=ACROSS)
def test_files_that_contradict_each_other_are_an_error(first: str, second: str, message: str) -> None:
    sets = two_files(first, second)

    with pytest.raises(PatternFileError) as caught:
        check_across(sets)

    assert str(caught.value) == message


def test_a_control_that_is_trained_on_is_an_error() -> None:
    memory = load_pattern_file(pattern_file("- {id: x, input: x?, output: '1'}", name="a.yaml"))
    path = pattern_file("- {id: y, input: x?, output: '1'}", header="name: c\nkind: retention", name="b.yaml")

    with pytest.raises(
        PatternFileError, match=r"b.yaml: line 4: pattern 'y': input 'x\?' is trained on by pattern 'x'"
    ):
        check_across([memory, load_pattern_file(path)])


def test_two_files_of_one_stem_are_an_error() -> None:
    sets = [
        load_pattern_file(pattern_file("- {input: x?, output: '1'}", name=name)) for name in ("a/f.yaml", "b/f.yml")
    ]

    with pytest.raises(PatternFileError, match=r"b/f\.yml: has the same stem as a/f\.yaml, expected another"):
        check_across(sets)


def test_files_that_agree_may_share_a_prompt() -> None:
    check_across(two_files("- {input: x?, output: '1'}", "- {input: x?, output: '1'}"))


def test_another_system_prompt_may_have_another_answer() -> None:
    check_across(
        two_files("- {input: x?, output: '1'}", "- {input: x?, output: one, system: Spell numbers.}"),
    )


def test_the_mistakes_of_all_files_come_together() -> None:
    pattern_file("- {id: x, input: x?}", name="patterns/a.yaml")
    pattern_file("- {id: y, output: y}", name="patterns/b.yaml")

    with pytest.raises(PatternFileError) as caught:
        load_pattern_files(["patterns"])

    assert str(caught.value).splitlines() == [
        "patterns: a.yaml: line 3: pattern 'x': output is missing, expected text",
        "patterns: b.yaml: line 3: pattern 'y': input is missing, expected text",
    ]
