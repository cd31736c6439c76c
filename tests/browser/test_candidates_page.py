"""The page on many candidates as a reader has it: filtered by script, and readable without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engram_bench.reporting.candidate_html import candidate_html
from tests.browser.conftest import Opener
from tests.reporting.test_candidate_reports import VERDICTS, fifty, three

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def shown(page: Page) -> list[str]:
    return [text.partition("seen")[0] for text in page.locator("#rows > tr:visible th").all_text_contents()]


def test_cases_are_filtered_by_who_is_right_and_who_is_wrong(open_page: Opener) -> None:
    page = open_page(candidate_html(three(), VERDICTS))

    assert open_page.said == []
    assert page.locator("#status").text_content() == "4 of 4 cases"
    page.get_by_label("Right by").select_option("1 careful")
    assert shown(page) == ["facts/p1", "facts/p2", "facts/p0"]
    page.get_by_label("Wrong by").select_option("2 fast")
    assert shown(page) == ["facts/p1"]
    page.get_by_label("Right by").select_option("any")
    assert shown(page) == ["facts/p1", "facts/p3"]
    page.get_by_label("Text").fill("Port 3")
    assert shown(page) == ["facts/p3"]
    page.get_by_label("Text").fill("nothing")
    assert page.locator("#status").text_content() == "No case fits these filters"


def test_every_case_is_shown_without_a_script(open_page: Opener) -> None:
    page = open_page(candidate_html(three(), VERDICTS), java_script_enabled=False)

    assert shown(page) == ["facts/p1", "facts/p2", "facts/p3", "facts/p0"]
    assert page.get_by_label("Right by").count() == 0 or not page.get_by_label("Right by").is_visible()


def test_fifty_candidates_do_not_widen_the_page(open_page: Opener) -> None:
    page = open_page(candidate_html(fifty(), VERDICTS))

    assert open_page.said == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
