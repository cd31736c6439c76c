from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.records import Verdict
from engram_bench.reporting.markdown import MAX_ENTRIES, code, escaped, markdown_report
from engram_bench.scoring.comparison import compare
from tests.made_up import big_comparison, big_run, big_verdicts, both, run_of


@cache
def big_page() -> str:
    return markdown_report(big_run(), big_comparison(), big_verdicts())


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def test_sections_come_in_order_of_interest() -> None:
    assert [line for line in big_page().splitlines() if line.startswith("#")] == [
        "# engram-bench: `lora-3f9a01bc22de` against `smollm2-135m-instruct`",
        "## Gates",
        "## Accuracy: seen prompts answered correctly (%, with 95 % interval)",
        "## Generalization: held-out wordings answered correctly (%, with 95 % interval)",
        "## Behaviour on seen prompts (rates in %, with 95 % interval)",
        "## Forgetting: controls and ordinary text (rates in %, with 95 % interval)",
        "## Speed (rates in %, with 95 % interval)",
        "## Broken: seen prompts (1)",
        "## Broken: controls (4)",
        "## Still wrong: seen prompts (7)",
        "## Still wrong: held-out wordings (70)",
        "## Still wrong: controls (12)",
        "## Fixed: seen prompts (132)",
        "## Fixed: held-out wordings (210)",
        "## Where the figures come from",
    ]
    assert big_page().endswith("\n")


def test_a_table_has_a_row_per_category_and_a_bold_total() -> None:
    rows = [cells(line) for line in big_page().splitlines()]

    assert [
        "category",
        "n",
        "baseline",
        "candidate",
        "diff pp",
        "fixed",
        "broken",
        "still right",
        "still wrong",
    ] in rows
    assert ["dictionaries", "8", "12.5 ( 2– 47)", "87.5 (53– 98)", "+75.0", "7", "1", "0", "0"] in rows
    assert [
        "**total**",
        "**140**",
        "**0.7 ( 0–  4)**",
        "**94.3 (89– 97)**",
        "**+93.6**",
        "**132**",
        "**1**",
        "**0**",
        "**7**",
    ] in rows


def test_a_verdict_is_a_row() -> None:
    verdict = Verdict(
        "accuracy >= +10pp", "insufficient", "+12.5 pp (3 of 24, was 0 of 24)", "at least +10 pp", "needs rows", 0.125
    )
    run = run_of(both("facts/a", False, True))

    page = markdown_report(run, compare(run), [verdict])

    assert [
        "`accuracy >= +10pp`",
        "**insufficient**",
        "+12.5 pp (3 of 24, was 0 of 24)",
        "at least +10 pp",
        "0.12",
        "needs rows",
    ] in [cells(line) for line in page.splitlines()]


def test_a_ledger_row_shows_prompt_answers_and_place() -> None:
    run = run_of(both("facts/a", False, False, prompt="Not Found?", text="4|5", line=7))

    page = markdown_report(run, compare(run), ())

    row = ["`facts/a`", "`Not Found?`", "`404`", r"`4\|5`", r"`4\|5`", "`patterns/facts.yaml:7`"]
    assert row in [cells(line) for line in page.splitlines()]


def test_a_very_long_ledger_points_to_the_document() -> None:
    run = run_of(*(both(f"facts/{i}", True, False) for i in range(MAX_ENTRIES + 3)))

    assert "… and 3 more in `latest.json`" in markdown_report(run, compare(run), ())


def test_cases_in_no_count_have_their_section() -> None:
    run = run_of(both("facts/a", None, True))

    page = markdown_report(run, compare(run), ())

    assert "## Not scored, so not passed (1)\n\n`facts/a`" in page


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("404", "`404`"),
        ("", "` `"),
        ("`ls`", "`` `ls` ``"),
        ("a `` b ` c", "```a `` b ` c```"),
        ("<script>", "`<script>`"),
        ("line\nbreak", r"`line\nbreak`"),
    ],
)
def test_code_spans_hold_any_text(text: str, span: str) -> None:
    assert code(text) == span


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("http_codes", "http_codes"),
        ("_private_", r"\_private\_"),
        ("*bold* [link](x) <b>", r"\*bold\* \[link\](x) \<b\>"),
        ("a\nb", r"a\\nb"),
    ],
)
def test_plain_cells_hold_any_text(text: str, markdown: str) -> None:
    assert escaped(text) == markdown


@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=60))
def test_no_text_breaks_a_row(text: str) -> None:
    run = run_of(both("facts/a", True, False, category=text, text=text, prompt=text), both("facts/b", True, True))

    page = markdown_report(run, compare(run), ())

    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} <= {10, 6, 7}
    page.encode("utf-8")
