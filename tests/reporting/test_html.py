from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.records import Comparison, Provenance, Run, Verdict
from engram_bench.reporting.html import BYTES_PER_CASE, html_report, ledger_json
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import judge, parse_gate
from tests.made_up import big_comparison, big_trained_run, big_verdicts, both, run_of


@cache
def big_page() -> str:
    return html_report(big_trained_run(), big_comparison(), big_verdicts())


EMPTY = Run("", Provenance("fake", "", "fake", "cpu", "none", "", "", "", "", ""))
PAYLOAD = "</script><script>window.hit=1</script><img src=x onerror=hit()>{{7*7}}\x1b[2J\u202e\u2028"


class Page(HTMLParser):
    """Tags, ids, attributes and visible words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style") and data.strip():
            self.words.append(" ".join(data.split()))


def data_of(page: str) -> dict[str, list[object]]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found: dict[str, list[object]] = json.loads(text)
    return found


def test_sections_come_in_order_of_interest() -> None:
    assert re.findall(r"<section[^>]* id=\"(\w+)\"", big_page()) == [
        "metrics",
        "categories",
        "cases",
        "generalization",
        "consistency",
        "retention",
        "speed",
        "training",
        "provenance",
    ]


def test_links_of_the_page_lead_somewhere_and_ids_are_unique() -> None:
    page = Page(big_page())

    targets = {value for name, value in page.attributes if name == "href" and value and value.startswith("#")}
    assert {target[1:] for target in targets if target} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_fetched_and_no_handler_or_style_is_inline() -> None:
    page = Page(big_page())

    addresses = {value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")}
    assert {address for address in addresses if address and not address.startswith("#")} == {"data:,"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]


@pytest.mark.parametrize(("tag", "directive"), [("style", "style-src"), ("script", "script-src")])
def test_the_policy_allows_the_pages_own_parts_by_hash_and_nothing_else(tag: str, directive: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', big_page())
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", big_page(), re.DOTALL)

    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    directives = dict(part.strip().split(" ", 1) for part in policy.replace("&#39;", "'").split(";"))
    assert directives["default-src"] == "'none'"
    assert directives[directive] == f"'sha256-{digest}'"


def test_cards_show_figure_interval_baseline_count_and_gate() -> None:
    text = " ".join(Page(big_page()).words)

    assert (
        "accuracy 94.3 % 95 % interval 89.1 to 97.1 baseline 0.7 % change +93.6 pp count 132 of 140 "
        "seen prompts answered correctly passed at least +10 pp" in text
    )
    assert "decode speed 24.5 tok/s 95 % interval 24.0 to 25.1 baseline 24.8 tok/s change -1.2 % (-3.6 to +1.2)" in text


def test_splits_are_counted_apart() -> None:
    text = " ".join(Page(big_page()).words)

    assert "seen prompts 1 broken 7 still wrong 132 fixed 0 still right" in text
    assert "held-out wordings 0 broken 70 still wrong 210 fixed 0 still right" in text


@pytest.mark.parametrize(
    ("outcomes", "title"),
    [
        ([], "No gate was judged"),
        (["pass"], "The gate is met"),
        (["pass", "pass", "not_measured"], "All 2 gates are met"),
        (["pass", "fail", "insufficient"], "1 of 3 gates failed"),
        (["pass", "insufficient"], "1 of 2 gates are insufficient"),
    ],
)
def test_the_banner_says_the_verdict(outcomes: list[str], title: str) -> None:
    verdicts = [Verdict("accuracy >= +10pp", outcome, "", "at least +10 pp") for outcome in outcomes]  # type: ignore[arg-type]
    run = run_of(both("facts/a", False, True))

    page = html_report(run, compare(run), verdicts)

    assert f'<h1 id="verdict">{title}</h1>' in page


def test_an_unscored_case_is_in_the_banner_whatever_the_gates_say() -> None:
    run = run_of(both("facts/a", None, True), both("facts/b", False, True))
    comparison = compare(run)

    page = html_report(run, comparison, judge([parse_gate("accuracy >= 10%")], comparison))

    assert "Not every case could be scored" in page
    assert "<code>facts/a</code>" in page


def test_what_was_not_measured_names_the_command() -> None:
    assert "Not measured in this run:" in " ".join(Page(big_page()).words)
    assert "<code>pytest -m consistency</code>" in big_page()


def test_an_empty_run_still_makes_a_page() -> None:
    page = html_report(EMPTY, Comparison({}, {}, ()), ())

    assert "No gate was judged" in page
    assert "Nothing was measured in this run." in page
    assert data_of(page)["rows"] == []


def test_a_row_of_the_ledger_holds_prompt_both_answers_and_place() -> None:
    run = run_of(both("facts/a", False, False, prompt="Two\nlines?", text="4\x1b5", line=7))

    data = data_of(html_report(run, compare(run), ()))

    assert data["rows"] == [
        ["facts/a", 1, 0, 0, 0, 7, "Two\nlines?", "404", "4\\x1b5", "4\\x1b5", "found 'I think', expected '404'", 0]
    ]
    assert data["states"][1] == "still wrong"
    assert data["paths"] == ["patterns/facts.yaml"]


def test_a_payload_anywhere_stays_text() -> None:
    run = run_of(
        both("facts/a", True, False, category=PAYLOAD, text=PAYLOAD, prompt=PAYLOAD, answers=(PAYLOAD,)),
        both(f"facts/{PAYLOAD}", False, None),
        both("facts/b", False, True, category="other"),
    )
    run = replace(run, provenance=replace(run.provenance, model=PAYLOAD, adapter=PAYLOAD, command=PAYLOAD))

    page = html_report(run, compare(run), [Verdict("accuracy >= +10pp", "fail", PAYLOAD, PAYLOAD, PAYLOAD)])

    assert Page(page).tags.count("script") == 2
    assert "img" not in Page(page).tags
    assert not set("\x1b\u202e\u2028") & set(page)


@settings(max_examples=20, deadline=None)
@given(text=st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_survives_as_a_page(text: str) -> None:
    run = run_of(both("facts/a", True, False, category=text or "x", text=text, prompt=text, answers=(text or "y",)))

    page = html_report(run, compare(run), ())

    page.encode("utf-8")
    assert len(data_of(page)["rows"]) == 1


def test_a_thousand_cases_of_any_length_stay_under_a_megabyte() -> None:
    run = run_of(*(both(f"facts/{i}", False, True, text="so " * 900, prompt="why? " * 400) for i in range(1000)))
    comparison = compare(run)

    assert len(html_report(run, comparison, ()).encode()) < 1_000_000
    assert len(ledger_json(comparison.ledger).encode()) <= BYTES_PER_CASE * 1000


def test_texts_are_whole_where_there_is_room() -> None:
    run = run_of(both("facts/a", False, True, text="word " * 100))

    (row,) = data_of(html_report(run, compare(run), ()))["rows"]

    assert row[9] == "word " * 100  # type: ignore[index]


def test_reasoning_stands_apart_at_the_end_of_a_row() -> None:
    (entry,) = compare(run_of(both("facts/a", False, False, text="405"))).ledger
    thoughtful = replace(entry, candidate_reasoning=f"Or 404? {PAYLOAD}")

    (row,) = json.loads(ledger_json([thoughtful]))["rows"]

    assert (row[9], row[12], row[13][:7]) == ("405", "", "Or 404?")
    assert "\x1b" not in row[13]
    assert "</script>" not in ledger_json([thoughtful])
