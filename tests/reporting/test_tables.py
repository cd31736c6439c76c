from __future__ import annotations

import pytest

from engram_bench.reporting.tables import ReportTable, category_table, ledger_sentences, measure_table
from engram_bench.scoring.comparison import compare
from tests.made_up import both, run_of

TABLE = ReportTable(
    title="title",
    headers=("name", "two\nlines", "what it is"),
    align="lrl",
    rows=(("a", "1", "short"), ("b", "20", "a text that is too long for one line")),
)


def test_headers_stand_on_the_line() -> None:
    assert TABLE.plain() == [
        "        two",
        "name  lines  what it is",
        "----  -----  ------------------------------------",
        "a         1  short",
        "b        20  a text that is too long for one line",
    ]


def test_a_last_column_of_text_wraps() -> None:
    assert TABLE.plain(33) == [
        "        two",
        "name  lines  what it is",
        "----  -----  ------------------",
        "a         1  short",
        "b        20  a text that is too",
        "             long for one line",
    ]


def test_a_table_whose_text_would_wrap_below_twelve_columns_is_a_list() -> None:
    table = ReportTable("", ("name", "text"), "ll", (("n" * 60, "twelve chars"),))

    assert len(table.plain(60 + 2 + 12)) == 3
    assert table.plain(60 + 2 + 11) == ["n" * 60, "  text  twelve chars"]


def test_a_page_has_one_line_headers_and_no_stray_bars() -> None:
    table = ReportTable("", ("name", "fixed/\nbroken"), "lr", (("a|b", "1/2"),), ("total", ""))

    assert table.markdown(str.upper) == "\n".join(
        [
            "| name      |   fixed/broken |",
            "|:----------|---------------:|",
            r"| A\|B      |            1/2 |",
            "| **TOTAL** |                |",
        ]
    )


@pytest.mark.parametrize(
    ("width", "name"),
    [(120, "a_category_with_a_really_long_name_to_cut"), (80, "a_category_with_a_re…"), (60, "a_categ…")],
)
def test_names_are_cut_before_figures(width: int, name: str) -> None:
    long = "a_category_with_a_really_long_name_to_cut"
    run = run_of(*(both(f"facts/{i}", i == 3, True, category=long if i % 2 else "b") for i in range(20)))
    table = category_table(compare(run), "accuracy", width=width)

    assert table is not None
    assert sorted(row[0] for row in table.rows) == [name, "b"]
    assert table.plain()[-1].split()[:2] == ["total", "20"]


def test_what_was_not_measured_has_no_table() -> None:
    empty = compare(run_of())

    assert category_table(empty, "accuracy") is None
    assert measure_table(empty) is None
    assert ledger_sentences(empty.ledger) == []


def test_a_single_category_is_its_total() -> None:
    table = category_table(compare(run_of(both("facts/a", False, True))), "accuracy")

    assert table is not None
    assert (table.rows, table.total and table.total[0]) == ((), "total")


def test_table_too_wide_for_a_narrow_terminal_is_a_list() -> None:
    rows = (("ports", "10/2", "words of a note"),)
    table = ReportTable("", ("category", "re/\nal", "note"), "lrl", rows, ("total", "", "end"))

    assert table.plain(20) == [
        "ports",
        "  re/al  10/2",
        "  note   words of a",
        "         note",
        "total",
        "  note   end",
    ]
