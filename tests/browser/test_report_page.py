"""The report as a reader has it: in a browser, from disk, without a network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from engram_bench.records import Comparison, LedgerEntry, SourceLine
from engram_bench.reporting.html import html_report
from engram_bench.scoring.comparison import compare
from tests.browser.conftest import Opener
from tests.made_up import big_comparison, big_trained_run, big_verdicts, both, run_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@cache
def big_page() -> str:
    return html_report(big_trained_run(), big_comparison(), big_verdicts())


def cases(page: Page) -> list[str]:
    return page.locator("tr.row td:nth-child(3)").all_text_contents()


def status(page: Page) -> str:
    return page.locator("#status").text_content() or ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_loads_without_a_word_on_the_console(open_page: Opener, scheme: str) -> None:
    page = open_page(big_page(), color_scheme=scheme)

    assert open_page.said == []
    assert page.title() == "1 of 3 gates failed · engram-bench 0007-20261121-8f1d427"
    assert status(page) == "1–50 of 456 cases"


def test_own_style_is_applied_under_the_policy(open_page: Opener) -> None:
    page = open_page(big_page())

    assert page.evaluate("getComputedStyle(document.querySelector('.banner')).borderTopWidth") == "4px"


def test_the_policy_blocks_scripts_that_are_not_the_pages(open_page: Opener) -> None:
    page = open_page(big_page().replace("</main>", "</main><script>window.hit = 1</script>"))

    assert page.evaluate("window.hit") is None
    assert any("Content Security Policy" in line for line in open_page.said)


def test_filters_by_state_split_category_and_text_add_up(open_page: Opener) -> None:
    page = open_page(big_page())

    page.get_by_role("radio", name="broken").check()
    assert status(page) == "1–5 of 5 cases"
    page.get_by_label("Split").select_option("seen prompts")
    assert cases(page) == ["code_idioms/dictionaries-77"]
    page.get_by_role("radio", name="all").check()
    page.locator("#category").select_option("units")
    assert status(page) == "1–8 of 8 cases"
    page.get_by_label("Text").fill("UNITS-120")
    assert cases(page) == ["formats/units-120"]
    page.get_by_label("Text").fill("no such case")
    assert status(page) == "No case fits these filters"


def test_worst_cases_come_first_and_a_header_sorts_both_ways(open_page: Opener) -> None:
    page = open_page(big_page())
    header = page.get_by_role("columnheader", name="Case")

    assert page.locator("tr.row .state").first.text_content() == "broken"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert cases(page)[:2] == ["code_idioms/comprehensions-2", "code_idioms/comprehensions-2/held-1"]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert cases(page)[0] == "formats/units-138/held-2"


def test_pages_of_fifty(open_page: Opener) -> None:
    page = open_page(big_page())

    assert page.get_by_role("button", name="Previous").is_disabled()
    for _ in range(9):
        page.get_by_role("button", name="Next").click()

    assert status(page) == "451–456 of 456 cases"
    assert page.get_by_role("button", name="Next").is_disabled()


def test_a_row_opens_by_keyboard_to_prompt_answers_and_difference(open_page: Opener) -> None:
    page = open_page(big_page())
    button = page.get_by_role("button", name="Prompt and answers of code_idioms/dictionaries-77")

    button.focus()
    page.keyboard.press("Enter")

    assert button.get_attribute("aria-expanded") == "true"
    detail = page.locator("tr.detail")
    assert detail.locator("dt").all_text_contents() == [
        "prompt", "expected", "baseline", "candidate", "difference", "reason", "pattern",
    ]  # fmt: skip
    assert detail.locator("del").all_text_contents() == ["404"]
    assert detail.locator("ins").all_text_contents() == ["I think"]
    page.keyboard.press("Enter")
    assert detail.count() == 0


def test_state_radios_move_with_arrow_keys(open_page: Opener) -> None:
    page = open_page(big_page())

    page.get_by_role("radio", name="all").focus()
    page.keyboard.press("ArrowRight")

    assert status(page) == "1–5 of 5 cases"


def test_a_payload_in_an_answer_is_inert_text(open_page: Opener) -> None:
    payload = "</script><script>window.hit=1</script><img src=x onerror='window.hit=2'>\u202egnp.exe"
    run = run_of(both("facts/a", True, False, category=payload, text=payload, prompt=payload, answers=(payload, "x")))
    page = open_page(html_report(run, compare(run), ()))

    page.locator(".toggle").click()

    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0
    assert "<script>window.hit=1</script>" in (page.locator("tr.detail").text_content() or "")
    assert r"\u202egnp.exe" in (page.locator("tr.detail").text_content() or "")
    assert open_page.said == []


def test_right_to_left_text_stays_in_its_cell(open_page: Opener) -> None:
    run = run_of(both("facts/a", True, False, text="שלום 404", prompt="مرحبا?"))
    page = open_page(html_report(run, compare(run), ()))

    cell = page.locator("tr.row td").nth(6)
    assert cell.text_content() == "שלום 404"
    assert cell.evaluate("cell => getComputedStyle(cell).direction") == "rtl"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(open_page: Opener, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(big_page(), color_scheme=scheme)
    page.locator(".toggle").first.click()
    for summary in page.locator("summary").all():
        summary.click()

    found: dict[str, Any] = axe.run(page).response

    assert len(found["passes"]) > 20
    assert [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []


def test_a_narrow_screen_scrolls_tables_and_not_the_page(open_page: Opener) -> None:
    page = open_page(big_page(), viewport={"width": 375, "height": 700})

    assert page.evaluate("document.documentElement.scrollWidth") == 375


def test_printing_unfolds_tables_and_shows_more_cases(open_page: Opener) -> None:
    page = open_page(big_page())

    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert status(page) == "1–456 of 456 cases"
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert status(page) == "1–50 of 456 cases"


def test_without_javascript_the_rest_is_there(open_page: Opener) -> None:
    page = open_page(big_page(), java_script_enabled=False)

    assert page.locator("h1").text_content() == "1 of 3 gates failed"
    assert page.locator("noscript").is_visible()
    assert not page.locator("#ledger").is_visible()


def test_reasoning_of_each_side_stands_apart_from_the_answer_and_stays_text(open_page: Opener) -> None:
    (entry,) = compare(run_of(both("facts/a", False, False, text="405"))).ledger
    thought = "Or 404?\n<img src=x onerror='window.hit = 1'></script>"
    page = open_page(
        html_report(big_trained_run(), Comparison({}, {}, (replace(entry, candidate_reasoning=thought),)), ())
    )

    page.get_by_role("button", name="Prompt and answers of facts/a").click()

    detail = page.locator("tr.detail")
    names = detail.locator("dt").all_text_contents()
    assert names[names.index("candidate") + 1] == "candidate's reasoning"
    assert "baseline's reasoning" not in names  # the bare model did not think aloud
    assert detail.locator("dd").nth(names.index("candidate's reasoning")).text_content() == thought
    assert detail.locator("dd").nth(names.index("candidate")).text_content() == "405"
    assert page.evaluate("window.hit") is None
    assert open_page.said == []


def test_ten_thousand_cases_open_within_two_seconds(open_page: Opener) -> None:
    ledger = tuple(
        LedgerEntry(
            case_id=f"facts/pattern-{i}",
            state=("fixed", "broken", "still_right", "still_wrong")[i % 4],  # type: ignore[arg-type]
            category=f"category-{i % 30}",
            split="seen",
            source=SourceLine("patterns/facts.yaml", i + 1),
            prompt=f"What is the answer to question number {i}?" * 3,
            expected=f"answer {i}",
            baseline="I am not sure, but I think it could be something else. " * 3,
            candidate=f"answer {i + i % 2}",
        )
        for i in range(10_000)
    )
    html = html_report(big_trained_run(), Comparison({}, {}, ledger), ())

    page = open_page("")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})  # the page's own work, whatever else runs here
    page.goto(open_page.write(html))
    page.get_by_label("Text").fill("number 9999?")
    assert status(page) == "1–1 of 1 cases"

    metrics = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
    assert 0 < metrics["TaskDuration"] < 2
    assert page.locator("tr.row").count() == 1
