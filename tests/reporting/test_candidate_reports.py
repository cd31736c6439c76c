from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from functools import cache

import pytest

from engram_bench.records import Estimate, SourceLine, Verdict
from engram_bench.records.candidates import (
    Candidate,
    CandidatePair,
    CandidateSet,
    CaseOfAll,
    FlakyCase,
    ParetoSet,
    SeedSpread,
)
from engram_bench.records.plain import from_plain
from engram_bench.reporting.candidate_html import candidate_html
from engram_bench.reporting.candidate_json import candidate_json
from engram_bench.reporting.candidate_markdown import candidate_markdown
from engram_bench.reporting.candidate_plot import pareto_plot
from engram_bench.reporting.candidate_tables import (
    figure_tables,
    matrix_table,
    numbered,
    pair_table,
    rank_tables,
    spread_table,
)
from engram_bench.reporting.candidate_terminal import candidate_lines
from tests.reporting.test_html import Page

VERDICTS = (
    Verdict(
        "careful.accuracy >= +5pp over fast",
        "pass",
        "+6.0 pp (6 of 6, fast 5 of 6)",
        "at least +5 pp over fast",
        "",
        0.01,
    ),
    Verdict("every.accuracy >= 90%", "fail", "83.3 % (5 of 6) in fast", "at least 90 %", "1 of 2 candidates pass"),
)


def candidate(name: str, value: float, n: int = 143, **fields: object) -> Candidate:
    """A candidate whose every measure is around *value*."""
    rate = Estimate(value, n, (value - 0.05, min(1.0, value + 0.03)), round(n * value))
    measures = dict.fromkeys(("accuracy", "generalization", "retention"), rate)
    measures |= {"answer_tokens": Estimate(4.2, n, (4.0, 4.5)), "perplexity": Estimate(20.123, 8)}
    made = Candidate(name, ("0001-run",), ("1",), "model", "fake", "lora-1", measures, train_s=60.0)
    return replace(made, **fields)  # type: ignore[arg-type]


def pair(
    first: str, second: str, difference: float, *, is_real: bool = False, metric: str = "accuracy"
) -> CandidatePair:
    outcome = ("better" if difference > 0 else "worse") if is_real else "no_difference"
    estimate = Estimate(difference, 143, (difference - 0.02, difference + 0.02))
    return CandidatePair(metric, first, second, estimate, 9, 2, 3, "sign_flip", 0.01, 0.03, outcome)  # type: ignore[arg-type]


def case(number: int, *right: float | None) -> CaseOfAll:
    answers = tuple("22" if share == 1 else "" if share is None else "I think" for share in right)
    source = SourceLine("patterns/facts.yaml", number)
    return CaseOfAll(f"facts/p{number}", "seen", "ports", source, f"Port {number}?", "22", right, answers)


SPREAD = SeedSpread(
    name="seeded",
    metric="accuracy",
    values={"1": 0.9, "2": 0.88, "3": 0.92},
    mean=0.9,
    sd=0.02,
    low=0.88,
    high=0.92,
    worst_seed="2",
    interval=(0.85, 0.95),
    seeds_share=0.4,
    answer_shares=(0.1, 0.7, 0.2),
)
FLAKY = FlakyCase("seeded", "facts/p2", "accuracy", ("1", "3"), ("2",), "Port 2?", SourceLine("patterns/facts.yaml", 2))


@cache
def three() -> CandidateSet:
    return CandidateSet(
        candidates=(
            candidate("careful", 0.95),
            candidate("fast", 0.85, unpaired=tuple(f"facts/x{n}" for n in range(7)), train_s=None),
            candidate("seeded", 0.90, runs=("a", "b", "c"), seeds=("1", "2", "3")),
        ),
        alpha=0.05,
        pairs=(
            pair("careful", "fast", 0.10, is_real=True),
            pair("careful", "seeded", 0.05),
            pair("fast", "seeded", -0.05),
        ),
        ranks={"accuracy": {"careful": "1=", "fast": "2", "seeded": "1="}},
        pareto=ParetoSet(
            ("generalization", "retention", "train_s"), ("careful",), {"seeded": "careful"}, {"fast": "train_s"}
        ),
        spreads=(SPREAD,),
        flaky=(FLAKY,),
        cases=(case(0, 1, 1, 1), case(1, 1, 0, 1), case(2, 1, None, 2 / 3), case(3, 0, 0, 0)),
    )


@cache
def fifty() -> CandidateSet:
    """Fifty candidates with long names, of which each really beats those five behind it."""
    names = [f"qwen2.5-recipe-with-a-long-name-{number}" for number in range(50)]
    pairs = [
        pair(one, other, 0.001 * (j - i), is_real=j - i > 5, metric=metric)
        for metric in ("accuracy", "generalization", "retention")
        for i, one in enumerate(names)
        for j, other in enumerate(names)
        if i < j
    ]
    return CandidateSet(
        tuple(candidate(name, 0.9 - 0.001 * number) for number, name in enumerate(names)),
        0.05,
        tuple(pairs),
        {"accuracy": {name: str(number + 1) for number, name in enumerate(names)}},
        cases=tuple(case(n, *(float((n + k) % 3 > 0) for k in range(50))) for n in range(40)),
    )


# ── tables ──────────────────────────────────────────────────────────────────────────────────────


def test_the_matrix_says_a_difference_from_both_sides_and_marks_a_real_one() -> None:
    table = matrix_table(three(), "accuracy")

    assert table.rows == (
        ("1", "careful", "", "+10.0*", "+5.0"),
        ("2", "fast", "-10.0*", "", "-5.0"),
        ("3", "seeded (3 seeds)", "-5.0", "+5.0", ""),
    )


def test_figures_have_their_number_of_answers_once_or_in_each_cell() -> None:
    unequal = replace(three(), candidates=(candidate("a", 0.9, 10), candidate("b", 0.8, 20)))

    (same,), (each,) = figure_tables(three()), figure_tables(unequal)

    assert same.headers[2] == "accuracy\nn 143"
    assert same.rows[0][2] == "95.0 (90– 98)"
    assert (each.headers[2], each.rows[1][2]) == ("accuracy", "80.0 (75– 83), n 20")
    assert same.rows[1][-1] == "unknown"
    assert each.rows[0][same.headers.index("answer_tokens\nn 143")] == "4.2 (4.0–4.5), n 10"


def test_a_wide_table_is_continued_with_the_names_again() -> None:
    tables = figure_tables(three(), width=60)

    assert len(tables) > 1
    assert all(max(map(len, table.plain())) <= 60 for table in tables)
    assert {table.rows[0][1] for table in tables} == {"careful"}
    assert sum(len(table.headers) - 2 for table in tables) == len(figure_tables(three())[0].headers) - 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [((), ""), (("fast",), "2"), (("seeded", "careful"), "1, 3"), (("careful", "fast", "seeded"), "1–3")],
)
def test_numbers_of_neighbours_are_joined(names: tuple[str, ...], expected: str) -> None:
    assert numbered(three(), names) == expected


def test_a_pair_shows_its_evidence() -> None:
    assert pair_table(three().pairs[:1]).rows == (
        ("careful", "fast", "143", "3", "+10.0 pp (+8.0 to +12.0)", "9/2", "0.01", "0.03", "first is better"),
    )


def test_the_spread_shows_the_worst_seed() -> None:
    table = spread_table(three())

    assert table is not None
    assert table.rows == (("seeded", "accuracy", "3", "90.0", "2.0", "88.0–92.0", "40 %", "2: 88.0 %"),)
    assert spread_table(fifty()) is None


def test_ranks_are_shown_as_they_are() -> None:
    (table,) = rank_tables(three())

    assert [row[-1] for row in table.rows] == ["1=", "2", "1="]


# ── terminal ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("found", [three, fifty], ids=["three", "fifty"])
def test_the_terminal_is_wide_enough(found: object, width: int) -> None:
    lines = candidate_lines(found(), width=width)  # type: ignore[operator]

    assert max(map(len, lines)) <= width
    assert len(lines) < 450


def test_the_terminal_says_everything_in_order() -> None:
    text = "\n".join(candidate_lines(three(), VERDICTS, page="page.html"))

    order = [
        "3 candidates",
        "figures",
        "ranks",
        "accuracy: row less",
        "spread",
        "flaky",
        "disagree (2 of 4)",
        "Pareto",
        "gate",
    ]
    found = [text.index(words) for words in order]
    assert found == sorted(found)
    assert "fast: 7 cases not shared with every candidate: facts/x0, facts/x1, facts/x2," in " ".join(text.split())
    assert "… and 2 more" in text
    assert "facts/p1: right 1, 3; wrong 2" in text
    assert "facts/p2: right 1; wrong none; under some seeds 3" in text
    assert "beaten: seeded by careful" in text
    assert "gate passed: careful.accuracy +6.0 pp (6 of 6, fast 5 of 6), wanted at least +5 pp over fast" in text
    assert text.endswith("1 of 2 candidates pass")


def test_many_candidates_are_listed_by_whom_they_beat() -> None:
    text = "\n".join(candidate_lines(fifty()))

    assert "accuracy: who is really better than whom" in text
    assert re.search(r"\n 1  qwen2.5-recipe-with.* +1 +0  7–50\n", text)
    assert re.search(r"\n10  qwen2.5-recipe-with.* +10 +4  16–50\n", text)
    assert "… and 30 more" in text


def test_the_terminal_is_ascii_where_it_must_be() -> None:
    assert all(line.isascii() for line in candidate_lines(three(), VERDICTS, encoding="ascii"))


# ── pages ───────────────────────────────────────────────────────────────────────────────────────


def test_the_page_reads_without_a_script() -> None:
    page = candidate_html(three(), VERDICTS)
    words = " ".join(Page(page).words)

    assert "1 of 2 gates failed" in words
    assert "facts/p1 seen, ports, patterns/facts.yaml:1 1, 3 2 Port 1? expected 22 1, 3 22 2 I think" in words
    assert re.findall(r'data-marks="([^"]*)"', page) == ["101", "1-2", "000", "111"]
    assert '<form class="tools" id="filter" role="search" aria-label="Filter cases" hidden>' in page


def test_the_page_fetches_nothing_and_allows_its_own_parts_only() -> None:
    text = candidate_html(fifty(), VERDICTS)
    page = Page(text)

    addresses = {value for name, value in page.attributes if name in ("src", "href", "action")}
    assert {address for address in addresses if address and not address.startswith("#")} == {"data:,"}
    assert {address[1:] for address in addresses if address and address.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in text
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]


def test_a_page_of_many_cases_is_bounded_and_says_so() -> None:
    many = replace(fifty(), cases=tuple(case(n, *([1.0] * 49), float(n % 2)) for n in range(1500)))

    page = candidate_html(many)

    assert page.count("data-marks") == 1000
    assert "1500 cases, of which 1000 are listed" in " ".join(Page(page).words)
    assert len(page) < 3_000_000


def test_the_markdown_has_every_part() -> None:
    page = candidate_markdown(three(), VERDICTS)

    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert [heading.split(":")[0].split(" (")[0] for heading in headings] == [
        "Gates",
        "Figures",
        "Ranks",
        "Pareto set",
        "Accuracy",
        "Spread over seeds",
        "Flaky",
        "Cases on which candidates disagree",
    ]
    assert "| `careful` | `fast`" in page
    assert "+10.0\\*" in page
    assert "| `facts/p1` | `Port 1?` | `22`" in page


def test_the_json_is_the_whole_set() -> None:
    document = json.loads(json.dumps(candidate_json(three(), VERDICTS), allow_nan=False))

    assert document.pop("schema") == 1
    assert [verdict["outcome"] for verdict in document.pop("verdicts")] == ["pass", "fail"]
    assert from_plain(CandidateSet, document) == three()


def test_the_plot_names_members_and_sizes_circles_by_seconds() -> None:
    svg = pareto_plot(three())

    assert re.findall(r'r="([\d.]+)" class="(\w+)"', svg) == [
        ("13", "candidate"),
        ("13", "baseline"),
        ("4", "baseline"),
    ]
    assert "careful, 60 s" in svg
    assert "fast</text>" in svg
    assert ">1, 60 s<" in pareto_plot(fifty())
    assert pareto_plot(replace(three(), candidates=())) == ""
