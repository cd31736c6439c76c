from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.records import Comparison, Provenance, Run, Timing, Verdict
from engram_bench.reporting.terminal import comparison_lines
from engram_bench.reporting.words import training_words
from engram_bench.scoring.comparison import compare, compare_runs
from engram_bench.scoring.gates import judge, parse_gate
from tests.made_up import CATEGORIES, TRAINING, big_comparison, big_run, big_verdicts, both, run_of


def test_a_small_run_reads_like_this() -> None:
    run = replace(
        run_of(
            both("facts/http-404", False, True, line=4),
            both("facts/port-ssh", False, False, line=9, category="ports", answers=("22",), text="80\n"),
            both("facts/port-dns", True, False, line=14, category="ports", answers=("53",), text="\x1b[2J"),
        ),
        training=TRAINING,
        timing=Timing(98.4, 14.2, 9.1, 124.0),
    )
    comparison = compare(run)
    verdicts = judge([parse_gate("accuracy >= +10pp"), parse_gate("accuracy >= 30%")], comparison)

    lines = comparison_lines(run, comparison, verdicts)

    assert "\n".join(lines) == SMALL_SECTION


def test_a_note_on_the_adapter_has_a_line_of_its_own() -> None:
    run = run_of(both("facts/a", True, True))
    noted = replace(run, provenance=replace(run.provenance, adapter_note="use_dora is True: PEFT itself computes it"))

    lines = [list(comparison_lines(each, compare(each), [])) for each in (run, noted)]

    assert [line for line in lines[1] if line not in lines[0]] == ["note     use_dora is True: PEFT itself computes it"]


def test_a_training_that_ended_too_early_says_what_allows_more() -> None:
    short = training_words(replace(TRAINING, steps=450, recall=0.23))

    assert short.endswith("recall 23.0 %: the steps ended before 98 %; --engram-steps (--steps) allows more")
    assert training_words(replace(TRAINING, recall=0.98)).endswith("recall 98.0 %")


SMALL_SECTION = r"""
model    smollm2-135m-instruct (b179c9523d0e)
backend  cpu, bfloat16
machine  Intel Xeon Platinum 8488C, 2 cores, Linux 6.1
adapter  lora-3f9a01bc22de: 210 steps, 412 examples, 98.2 s, loss 2.82 → 0.03,
         recall 100.0 %
time     train 98.4 s, baseline 14.2 s, candidate 9.1 s, in all 124.0 s
run      commit 8f1d427
command  pytest -m accuracy

accuracy: seen prompts answered correctly (%, with 95 % interval)
                                                               still
                                                diff  fixed/  right/
category    n       baseline       candidate      pp  broken   wrong
----------  -  -------------  --------------  ------  ------  ------
http_codes  1   0.0 ( 0– 79)  100.0 (21–100)  +100.0     1/0     0/0
ports       2  50.0 ( 9– 91)    0.0 ( 0– 66)   -50.0     0/1     0/1
----------  -  -------------  --------------  ------  ------  ------
total       3  33.3 ( 6– 79)   33.3 ( 6– 79)    +0.0     1/1     0/1

behaviour on seen prompts (rates in %, with 95 % interval)
metric           n        baseline       candidate  change
---------------  -  --------------  --------------  --------------------------
stops_by_itself  3  100.0 (44–100)  100.0 (44–100)  +0.0 pp
answer_tokens    3      3.0 tokens      3.0 tokens  +0.0 tokens (+0.0 to +0.0)

seen prompts: fixed 1, broken 1, still right 0, still wrong 1

broken, seen prompts (1)
  patterns/facts.yaml:14 port-dns: expected '53', found '\x1b[2J'

still wrong, seen prompts (1)
  patterns/facts.yaml:9 port-ssh: expected '22', found '80\n'

gate failed: accuracy +0.0 pp (1 of 3, was 1 of 3), wanted at least +10 pp
gate passed: accuracy 33.3 % (1 of 3), wanted at least 30 %
""".strip()


@pytest.mark.parametrize("width", [40, 60, 80, 90, 100, 120])
def test_no_line_is_wider_than_the_terminal_but_verdicts_and_places(width: int) -> None:
    lines = comparison_lines(big_run(), big_comparison(), big_verdicts(), width=width)

    assert [line for line in lines if len(line) > width and not line.startswith(("gate ", "  patterns/"))] == []


def test_every_category_has_its_row_at_80_columns() -> None:
    lines = comparison_lines(big_run(), big_comparison(), big_verdicts(), width=80)

    for category in (name for names in CATEGORIES.values() for name in names):
        assert sum(line.startswith(category[:18]) for line in lines) == 2  # accuracy and generalization
    assert "total                 140   0.7 ( 0–  4)   94.3 (89– 97)   +93.6   132/1     0/7" in lines


def test_a_wide_terminal_gives_each_count_its_column() -> None:
    lines = [
        " ".join(line.split()) for line in comparison_lines(big_run(), big_comparison(), big_verdicts(), width=110)
    ]

    assert "category n baseline candidate pp fixed broken right wrong" in lines
    assert "total 140 0.7 ( 0– 4) 94.3 (89– 97) +93.6 132 1 0 7" in lines


def test_many_categories_show_the_weakest() -> None:
    run = run_of(*(both(f"facts/{i}", False, i != 55, category=f"category-{i:02}") for i in range(60)))

    lines = comparison_lines(run, compare(run), ())

    assert sum(line.startswith("category-") for line in lines) == 40
    assert any(line.startswith("category-55") for line in lines)
    assert "the weakest 40 of 60 categories" in " ".join(lines)


def test_a_long_list_is_cut_and_names_the_page() -> None:
    lines = comparison_lines(big_run(), big_comparison(), big_verdicts(), report="reports/latest.md")

    title = lines.index("still wrong, held-out wordings (70)")
    assert "  … and 60 more in reports/latest.md" in lines[title:]


def test_controls_that_nobody_knows_are_not_listed() -> None:
    text = "\n".join(comparison_lines(big_run(), big_comparison(), big_verdicts()))

    assert "broken, controls (4)" in text
    assert "still wrong, controls" not in text


def test_answers_cannot_act_on_the_terminal() -> None:
    text = "\n".join(comparison_lines(big_run(), big_comparison(), big_verdicts()))

    assert "\x1b" not in text
    assert r"ports-7: expected '404', found '\x1b[2J'" in text


def test_a_stream_without_unicode_gets_plain_text() -> None:
    lines = comparison_lines(big_run(), big_comparison(), big_verdicts(), encoding="ascii")

    assert all(line.isascii() for line in lines)
    assert any("loss 2.82 -> 0.03" in line for line in lines)


def test_verdicts_come_last_each_in_one_line_with_the_reason_below() -> None:
    verdicts = [
        Verdict("accuracy >= +10pp", "fail", "+0.0 pp (2 of 2, was 2 of 2)", "at least +10 pp"),
        Verdict("retention >= 90%", "insufficient", "", "at least 90 %", "retention was not measured"),
        Verdict("decode_speed >= -5%", "not_measured", "", "at least -5 %", "decode_speed was not measured"),
    ]

    lines = comparison_lines(big_run(), big_comparison(), verdicts)

    assert lines[-4:] == [
        "gate failed: accuracy +0.0 pp (2 of 2, was 2 of 2), wanted at least +10 pp",
        "gate insufficient: retention, wanted at least 90 %",
        "  retention was not measured",
        "gate not measured: decode_speed, wanted at least -5 %",
    ]


def test_cases_in_no_count_are_named() -> None:
    run = run_of(both("facts/a", False, True), both("facts/b", True, None), missing=("facts/c",))

    assert "not scored, so not passed (2): facts/b, facts/c" in comparison_lines(run, compare(run), ())


def test_cases_of_one_run_are_named_when_runs_are_compared() -> None:
    old, new = run_of(both("facts/gone", False, True)), run_of(both("facts/new", False, True))

    lines = comparison_lines(new, compare_runs(old, new), ())

    assert "only in the newer run (1): facts/new" in lines
    assert "only in the older run (1): facts/gone" in lines


def test_an_empty_comparison_still_says_where_it_comes_from() -> None:
    bare = Run("", Provenance("fake", "", "fake", "cpu", "none", "", "", "", "", ""))

    assert comparison_lines(bare, Comparison({}, {}, ()), ()) == [
        "model    fake",
        "backend  fake, cpu, none",
        "adapter  none: the candidate is the bare model",
    ]


@settings(max_examples=25)
@given(
    category=st.text(st.characters(exclude_categories=()), min_size=1, max_size=50),
    answer=st.text(st.characters(exclude_categories=()), max_size=200),
    width=st.integers(60, 140),
)
def test_any_names_and_answers_print(category: str, answer: str, width: int) -> None:
    run = run_of(
        both("facts/a", True, False, category=category, text=answer),
        both("facts/b", False, False, category="other", text=answer),
    )

    lines = comparison_lines(run, compare(run), (), width=width, encoding="ascii")

    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("width", [80, 100])
def test_columns_line_up(width: int) -> None:
    lines = comparison_lines(big_run(), big_comparison(), (), width=width)
    start = next(i for i, line in enumerate(lines) if line.startswith("category"))

    assert len({len(line) for line in lines[start : start + 22]}) == 1
