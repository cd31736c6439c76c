from dataclasses import replace

import pytest

from engram_bench.records import GuardResult, Run
from engram_bench.reporting.guard_report import guard_sentences, guard_table
from engram_bench.reporting.html import html_report
from engram_bench.reporting.json_report import json_report
from engram_bench.reporting.markdown import markdown_report
from engram_bench.reporting.terminal import comparison_lines, line_colour
from engram_bench.scoring.comparison import compare
from tests.made_up import both, run_of

RUN = run_of(both("facts/a", False, True))
COMPARISON = compare(RUN)
HOLDS = GuardResult("same-base", "facts", "holds")
BROKEN = GuardResult("finite-weights", "facts", "broken", "a.safetensors: tensor 'x' holds NaN")
NOT_TOLD = GuardResult("changes-a-logit", "<formats>", "not_told", "no log-probabilities here")
GUARDED = replace(
    RUN, guards=(HOLDS, BROKEN, replace(BROKEN, set_name="<formats>", outcome="holds", reason=""), NOT_TOLD)
)


def test_what_does_not_hold_has_a_line_of_its_own() -> None:
    assert guard_sentences(GUARDED) == [
        "sanity guards: 2 of 4 hold, 1 broken, 1 cannot be checked",
        "guard broken: facts finite-weights: a.safetensors: tensor 'x' holds NaN",
        "guard cannot be checked: <formats> changes-a-logit: no log-probabilities here",
    ]


def test_no_guards_no_words() -> None:
    assert guard_sentences(RUN) == []
    assert guard_table(RUN) is None


def test_table_has_a_row_per_guard_with_its_worst_file() -> None:
    table = guard_table(GUARDED)

    assert table is not None
    assert table.rows == (
        ("same-base", "holds", "1 of 1", "The adapter's base model is the one that is loaded."),
        ("finite-weights", "broken", "1 of 2", "facts: a.safetensors: tensor 'x' holds NaN"),
        ("changes-a-logit", "cannot be checked", "0 of 1", "<formats>: no log-probabilities here"),
    )


def test_guard_of_another_version_has_no_meaning_but_a_row() -> None:
    table = guard_table(replace(RUN, guards=(GuardResult("novel", "facts", "holds"),)))

    assert table is not None
    assert table.rows == (("novel", "holds", "1 of 1", ""),)


def test_terminal_shows_them_and_a_broken_one_in_red() -> None:
    lines = comparison_lines(GUARDED, COMPARISON, (), width=120)

    assert "sanity guards: 2 of 4 hold, 1 broken, 1 cannot be checked" in lines
    assert [line_colour(line) for line in lines if line.startswith("guard broken")] == ["red"]


def test_markdown_and_json_have_them() -> None:
    assert "## Sanity guards" in markdown_report(GUARDED, COMPARISON, ())
    assert json_report(GUARDED, COMPARISON, ())["guards"][1] == {
        "guard": "finite-weights",
        "set_name": "facts",
        "outcome": "broken",
        "reason": "a.safetensors: tensor 'x' holds NaN",
    }


@pytest.mark.parametrize(("run", "title"), [(GUARDED, "A sanity guard is broken"), (RUN, None)], ids=["broken", "none"])
def test_page_has_a_section_and_a_banner(run: Run, title: str | None) -> None:
    page = html_report(run, COMPARISON, ())

    assert ('<section id="guards"' in page) == (title is not None)
    assert ("A sanity guard is broken" in page) == (title is not None)
    assert "<formats>" not in page
