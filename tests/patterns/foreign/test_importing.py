"""Training data of other tools: each format is recognised, read in the meaning of its tool, and what is left out is counted."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.errors import PatternFileError, UsageError
from engram_bench.patterns.foreign.formats import LeftOut, recognised
from engram_bench.patterns.foreign.importing import OTHER, SAME, Imported, import_patterns
from engram_bench.patterns.load import load_pattern_file


def turns(*texts: str, system: str = "") -> list[dict[str, str]]:
    roles = ["system"] * bool(system) + ["user", "assistant"] * len(texts)
    said = [system] * bool(system) + list(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]


def shared(*pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in pairs], **more}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def imported(source: Path, **options: Any) -> tuple[Imported, list[tuple[str, str, str | None]]]:
    """The report, and question, answer and system prompt of each pattern as the loader reads them."""
    target = source.parent / "out" / "patterns.jsonl"
    report = import_patterns(source, target, **options)
    return report, [(each.input, each.output, each.system) for each in load_pattern_file(target).patterns]


ROWS: dict[str, tuple[dict[str, Any], tuple[str, str, str | None]]] = {
    "chat": ({"messages": turns("Port of SSH?", "22")}, ("Port of SSH?", "22", None)),
    "chat, system": ({"messages": turns("SSH?", "22", system="Be terse.")}, ("SSH?", "22", "Be terse.")),
    "sharegpt": (shared(("human", "SSH?"), ("gpt", "22")), ("SSH?", "22", None)),
    "sharegpt, turn of the system": (
        shared(("system", "Be terse."), ("human", "SSH?"), ("gpt", "22")),
        ("SSH?", "22", "Be terse."),
    ),
    "sharegpt, column of the system": (
        shared(("human", "SSH?"), ("gpt", "22"), system="Be terse."),
        ("SSH?", "22", "Be terse."),
    ),
    "sharegpt, usual roles": (shared(("user", "SSH?"), ("assistant", "22")), ("SSH?", "22", None)),
    "alpaca": ({"instruction": "Port?", "input": "SSH", "output": "22"}, ("Port?\nSSH", "22", None)),
    "alpaca, no input": ({"instruction": "Port of SSH?", "input": "", "output": "22"}, ("Port of SSH?", "22", None)),
    "alpaca, system": (
        {"instruction": "SSH?", "output": "22", "system": "Be terse.", "history": []},
        ("SSH?", "22", "Be terse."),
    ),
    "prompt and completion": ({"prompt": "SSH?", "completion": " 22"}, ("SSH?", "22", None)),
    "question and answer": ({"question": "SSH?", "answer": "22", "id": 7}, ("SSH?", "22", None)),
    "input and output": ({"input": "SSH?", "output": "22"}, ("SSH?", "22", None)),
    "instruction and response": ({"instruction": "SSH?", "response": "22"}, ("SSH?", "22", None)),
    "a number as answer": ({"question": "SSH?", "answer": 22}, ("SSH?", "22", None)),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_a_pattern(tmp_path: Path, name: str) -> None:
    row, expected = ROWS[name]

    _, patterns = imported(lines(tmp_path / "data.jsonl", row))

    assert patterns == [expected]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": turns("a", "b", "c", "d")}, "several turns"),
        (shared(("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")), "several turns"),
        ({"messages": turns("a")}, "turns of user"),
        ({"messages": []}, "turns of none"),
        ({"messages": "a"}, "no list of turns"),
        (
            {"messages": [{"role": "user", "content": ["a"]}, {"role": "assistant", "content": "b"}]},
            "content is no text",
        ),
        ({"messages": turns("a", "  ")}, "content is empty"),
        ({"messages": turns("a", "b"), "tools": [{"type": "function"}]}, "tools"),
        (shared(("human", "a"), ("gpt", "b"), tools='[{"name": "f"}]'), "tools"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]},
            "an answer of weight 0",
        ),
        ({"prompt": "a", "completion": "b", "label": False}, "an answer that is not wanted (label: false)"),
        ({"messages": turns("a", "b"), "label": "False"}, "an answer that is not wanted (label: false)"),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": None, "tool_calls": [{}]},
                ]
            },
            "tool calls",
        ),
        ({"instruction": "a", "output": ""}, "output is empty"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "several turns"),
        ({"question": "a", "answer": None}, "answer is no text"),
        ({"question": "a", "answer": True}, "answer is no text"),
        ({"question": "a", "answer": "\x00\x1b"}, "nothing but control characters"),
    ],
)
def test_a_row_without_one_question_and_answer_is_left_out_with_its_reason(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    fine = next(each for each, _ in ROWS.values() if next(iter(row)) in each)

    report, patterns = imported(lines(tmp_path / "data.jsonl", fine, row))

    assert len(patterns) == 1
    assert report.left_out == {reason: 1}
    assert report.first == {reason: "data.jsonl:2"}


def test_the_same_question_is_taken_once(tmp_path: Path) -> None:
    pairs = [("a", "1"), ("a", "1"), ("a", "2"), ("b", "1")]

    report, patterns = imported(lines(tmp_path / "d.jsonl", *({"question": q, "answer": a} for q, a in pairs)))

    assert [(question, answer) for question, answer, _ in patterns] == [("a", "1"), ("b", "1")]
    assert report.left_out == {SAME: 1, OTHER: 1}
    assert (report.rows, report.taken) == (4, 2)


def test_control_characters_become_spaces_and_are_counted(tmp_path: Path) -> None:
    report, patterns = imported(lines(tmp_path / "d.jsonl", {"question": "a\x07b\r\nc", "answer": "1"}))

    assert patterns == [("a b\nc", "1", None)]
    assert report.cleaned == 1


# ── files ───────────────────────────────────────────────────────────────────────────────────────


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_text('q,a,topic\n"Port of ""SSH""?",22,net\n', "utf-8")

    report, patterns = imported(source, columns={"input": "q", "output": "a", "category": "topic"})

    assert patterns == [('Port of "SSH"?', "22", None)]
    assert report.words == "pairs: 'q' is the question and 'a' the answer"


def test_one_document_of_rows_is_read(tmp_path: Path) -> None:
    source = tmp_path / "d.json"
    for document in ([{"question": "a", "answer": "1"}], {"version": 1, "data": [{"question": "a", "answer": "1"}]}):
        source.write_text(json.dumps(document), "utf-8")

        assert imported(source)[1] == [("a", "1", None)]


def test_tables_are_read_as_lines_are(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    table = pyarrow.table({"prompt": ["a", "b"], "completion": ["1", "2"]})
    parquet.write_table(table, tmp_path / "d.parquet")
    with ipc.new_stream(tmp_path / "s.arrow", table.schema) as stream:
        stream.write_table(table)
    with ipc.new_file(tmp_path / "f.arrow", table.schema) as file:
        file.write_table(table)

    found = [imported(tmp_path / name)[1] for name in ("d.parquet", "s.arrow", "f.arrow")]

    assert found == [[("a", "1", None), ("b", "2", None)]] * 3


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "b").mkdir(parents=True)
    lines(folder / "b" / "2.jsonl", {"question": "b", "answer": "2"})
    lines(folder / "1.jsonl", {"question": "a", "answer": "1"})
    (folder / "dataset_info.json").write_text('{"features": {}}', "utf-8")

    assert [question for question, *_ in imported(folder)[1]] == ["a", "b"]


BROKEN: dict[str, tuple[str, bytes, str]] = {
    "no JSON": ("d.jsonl", b'{"question": "a", "answer": "1"}\n{"question": \n', r"line 2: not JSON"),
    "a list": ("d.jsonl", b"[1]\n", r"line 1: a list, expected an object"),
    "no UTF-8": ("d.jsonl", b'{"question": "\xff", "answer": "1"}\n', r"line 1: bytes that are no UTF-8 text"),
    "deep": ("d.jsonl", b'{"question": ' + b"[" * 90 + b"]" * 90 + b"}\n", r"line 1: not JSON"),
    "unknown keys": ("d.jsonl", b'{"text": "a"}\n', r"row 1: found text, expected messages, conversations"),
    "empty": ("d.jsonl", b"", r"no row was taken \(no rows\)"),
    "a text": ("d.json", b'"a"', r"row 1: a text, expected a list of objects"),
    "half a document": ("d.json", b'[{"question": "a"', r"not JSON"),
    "open quote": (
        "d.csv",
        b'question,answer\na,1\n"b,2\nc,3\n',
        r"line 3: unexpected end of data, expected quotes in pairs",
    ),
    "quote in a cell": ("d.csv", b'question,answer\n"a"b,1\n', r"line 2: .*expected quotes in pairs"),
    "another number of cells": ("d.csv", b"question,answer\na,1\nb\n", r"line 3: 1 cells, expected 2 as in the header"),
    "two columns of one name": ("d.csv", b"a,a\n1,2\n", r"line 1: columns without a name or with the same one"),
    "no text of CSV": ("d.csv", b"question,answer\na,\xff\n", r"expected UTF-8 text"),
    "no Parquet": ("d.parquet", b"PAR1 and more", r"cannot be read as Parquet"),
    "no Arrow": ("d.arrow", b"ARROW1 and more", r"cannot be read as Arrow"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_row_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    file, content, message = BROKEN[name]
    if file.endswith(("parquet", "arrow")):
        pytest.importorskip("pyarrow")
    (tmp_path / file).write_bytes(content)

    with pytest.raises(PatternFileError, match=message):
        import_patterns(tmp_path / file, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_other_suffixes_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.xml").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(UsageError, match=r"found suffix '\.xml', expected one of \.jsonl"):
        import_patterns(tmp_path / "d.xml", tmp_path / "out.jsonl")
    for path in (tmp_path / "none.jsonl", tmp_path / "empty"):
        with pytest.raises(PatternFileError, match=r"no such file or folder|no data file"):
            import_patterns(path, tmp_path / "out.jsonl")


KEYS = st.sampled_from(["messages", "conversations", "instruction", "input", "output", "history"])
TURN_KEYS = st.sampled_from(["role", "content", "from", "value"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(TURN_KEYS, inner),
    max_leaves=8,
)


@given(row=st.dictionaries(KEYS, VALUES))
def test_whatever_a_row_holds_it_is_read_or_left_out(row: dict[str, Any]) -> None:
    found = recognised(row)
    texts = ["a", "b"]
    if found is not None:
        with suppress(LeftOut):
            exchange = found.exchange(row)
            texts = [exchange.input, exchange.output]

    assert all(text and text == text.strip() for text in texts)
