from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.records import CaseResult, Comparison, Estimate, LedgerEntry, Measure, Run, SourceLine
from engram_bench.scoring.comparison import compare, compare_runs
from tests.made_up import big_run, both, row, run_of

NOTHING = Estimate(0.0, 0)


def states(comparison: Comparison) -> dict[str, str]:
    return {entry.case_id: entry.state for entry in comparison.ledger}


def test_each_case_is_fixed_broken_still_right_or_still_wrong() -> None:
    comparison = compare(
        run_of(
            both("facts/a", False, True),
            both("facts/b", True, False),
            both("facts/c", True, True),
            both("facts/d", False, False),
        )
    )

    assert states(comparison) == {
        "facts/a": "fixed",
        "facts/b": "broken",
        "facts/c": "still_right",
        "facts/d": "still_wrong",
    }
    assert comparison.unscored == ()


def test_an_entry_shows_what_was_asked_and_answered() -> None:
    comparison = compare(run_of(both("facts/a", False, False, text="40", line=7, prompt="Not Found?")))

    assert comparison.ledger == (
        LedgerEntry(
            case_id="facts/a",
            state="still_wrong",
            category="http_codes",
            split="seen",
            source=SourceLine("patterns/facts.yaml", 7),
            prompt="Not Found?",
            expected="404",
            baseline="40",
            candidate="40",
            reason="found 'I think', expected '404'",
        ),
    )


def test_accuracy_counts_both_sides_with_wilson_intervals() -> None:
    """8 of 10 has the Wilson interval 0.490-0.943, 2 of 10 its mirror image."""
    rows = [both(f"facts/{i}", i < 2, i != 0 and i < 9) for i in range(10)]

    accuracy = compare(run_of(*rows)).measures["accuracy"]

    assert accuracy.baseline is not None
    assert accuracy.candidate is not None
    assert accuracy.difference is not None
    assert (accuracy.baseline.passed, accuracy.baseline.n, accuracy.baseline.value) == (2, 10, 0.2)
    assert (accuracy.candidate.passed, accuracy.candidate.n, accuracy.candidate.value) == (8, 10, 0.8)
    assert accuracy.baseline.interval == pytest.approx((0.0567, 0.5098), abs=1e-4)
    assert accuracy.candidate.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert accuracy.difference.value == 0.6
    assert (accuracy.fixed, accuracy.broken) == (7, 1)


def test_tests_are_measured_apart() -> None:
    comparison = compare(
        run_of(
            both("facts/a", False, True),
            both("facts/a/held-1", False, False, test="generalization"),
            both("controls/x", True, True, test="retention"),
        )
    )

    values = {name: measure.candidate.value for name, measure in comparison.measures.items() if measure.candidate}
    assert (values["accuracy"], values["generalization"], values["retention"]) == (1.0, 0.0, 1.0)
    assert [(entry.case_id, entry.split) for entry in comparison.ledger] == [
        ("controls/x", "control"),
        ("facts/a", "seen"),
        ("facts/a/held-1", "held_out"),
    ]


def test_slices_hold_the_same_metrics_by_category_and_file() -> None:
    comparison = compare(
        run_of(
            both("facts/a", False, True, category="http"),
            both("facts/b", False, False, category="git"),
            both("idioms/c", False, True, category="git"),
        )
    )

    assert {
        name: (measures["accuracy"].candidate or NOTHING).passed for name, measures in comparison.slices.items()
    } == {"category:http": 1, "category:git": 1, "file:facts": 1, "file:idioms": 1}
    assert {name: (m["accuracy"].candidate or NOTHING).n for name, m in comparison.slices.items()} == {
        "category:http": 1,
        "category:git": 2,
        "file:facts": 2,
        "file:idioms": 1,
    }


@pytest.mark.parametrize(
    "rows",
    [
        [row("facts/b", "baseline", True)],
        [row("facts/b", "candidate", True)],
        both("facts/b", None, True),
        both("facts/b", True, None),
    ],
    ids=["no-candidate", "no-baseline", "baseline-crashed", "candidate-crashed"],
)
def test_a_case_without_two_scores_is_unscored_and_in_no_count(rows: list[CaseResult]) -> None:
    comparison = compare(run_of(both("facts/a", False, True), rows))

    accuracy = comparison.measures["accuracy"]
    assert comparison.unscored == ("facts/b",)
    assert accuracy.baseline is not None
    assert accuracy.candidate is not None
    assert (accuracy.baseline.n, accuracy.candidate.n) == (1, 1)
    assert states(comparison) == {"facts/a": "fixed"}


def test_missing_cases_are_unscored() -> None:
    assert compare(run_of(both("facts/a", False, True), missing=("facts/z",))).unscored == ("facts/z",)


def test_a_control_without_an_answer_needs_no_score_and_has_no_state() -> None:
    comparison = compare(run_of(both("controls/x", None, None, test="retention", answers=(), text="Hello!")))

    assert comparison.unscored == ()
    assert comparison.ledger == ()
    agreement = comparison.measures["agreement"].candidate
    assert agreement is not None
    assert (agreement.passed, agreement.n) == (1, 1)


def test_a_crash_on_one_wording_takes_its_pattern_out_of_consistency() -> None:
    comparison = compare(
        run_of(
            both("facts/a", True, True, test="consistency"),
            both("facts/a/held-1", True, True, test="consistency"),
            both("facts/a/held-2", True, None, test="consistency"),
            both("facts/b", True, True, test="consistency"),
            both("facts/b/held-1", True, True, test="consistency"),
        )
    )

    measure = comparison.measures["consistent_accuracy"]
    assert measure.candidate is not None
    assert measure.candidate.n == 1
    assert comparison.unscored == ("facts/a/held-2",)


def test_measures_from_outside_the_cases_pass_through() -> None:
    speed = Measure("decode_speed", "tok/s", Estimate(25.0, 8), Estimate(24.0, 8))

    assert compare(run_of(measures=(speed,))).measures == {"decode_speed": speed}


def test_the_fused_side_is_not_compared() -> None:
    comparison = compare(run_of(both("facts/a", False, True), [row("facts/b", "fused", True)]))

    assert (states(comparison), comparison.unscored) == ({"facts/a": "fixed"}, ())


def test_the_ledger_follows_the_files() -> None:
    comparison = compare(
        run_of(
            both("facts/b", False, True, line=20),
            both("facts/a/held-10", False, True, line=30, test="generalization"),
            both("facts/a/held-2", False, True, line=30, test="generalization"),
            both("code/z", False, True, line=90),
        )
    )

    assert list(states(comparison)) == ["code/z", "facts/b", "facts/a/held-2", "facts/a/held-10"]


def test_runs_are_compared_by_their_candidates() -> None:
    old = run_of(both("facts/a", True, False), both("facts/b", False, True))
    new = run_of(both("facts/a", True, True), both("facts/b", False, True))

    assert states(compare_runs(old, new)) == {"facts/a": "fixed", "facts/b": "still_right"}


def test_cases_of_one_run_are_added_or_removed_and_not_counted() -> None:
    old = run_of(both("facts/a", False, True), both("facts/gone", False, True))
    new = run_of(both("facts/a", False, True), both("facts/new", False, False))

    comparison = compare_runs(old, new)

    assert (comparison.added, comparison.removed) == (("facts/new",), ("facts/gone",))
    assert states(comparison) == {"facts/a": "still_right"}
    assert comparison.unscored == ()


@pytest.mark.parametrize("change", [{"prompt": "Another question?"}, {"answers": ("405",)}], ids=["prompt", "answers"])
def test_a_case_whose_question_changed_is_another_case(change: dict[str, object]) -> None:
    comparison = compare_runs(run_of(both("facts/a", False, True)), run_of(both("facts/a", False, False, **change)))

    assert (comparison.added, comparison.removed, comparison.ledger) == (("facts/a",), ("facts/a",), ())


def test_a_case_that_only_moved_in_its_file_is_the_same() -> None:
    comparison = compare_runs(run_of(both("facts/a", False, True)), run_of(both("facts/a", False, True, line=99)))

    assert states(comparison) == {"facts/a": "still_right"}


def test_figures_of_a_machine_are_not_compared_across_runs() -> None:
    measures = (
        Measure("decode_speed", "tok/s", Estimate(25.0, 8), Estimate(24.0, 8)),
        Measure("perplexity", "ppl", Estimate(20.0, 1), Estimate(21.0, 1), higher_is_better=False),
    )
    old = run_of(measures=measures)

    comparison = compare_runs(old, replace(old, measures=(replace(measures[1], candidate=Estimate(22.0, 1)),)))

    assert list(comparison.measures) == ["perplexity"]
    assert comparison.measures["perplexity"].baseline == Estimate(21.0, 1)
    assert comparison.measures["perplexity"].candidate == Estimate(22.0, 1)
    assert comparison.measures["perplexity"].note == "two runs, not paired"


def test_nothing_compared_with_nothing_is_empty() -> None:
    assert compare(run_of()) == Comparison({}, {}, ())


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(random: object) -> None:
    run = small_run()
    shuffled = list(run.results)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert compare(replace(run, results=tuple(shuffled))) == small_comparison()


@cache
def small_run() -> Run:
    run = big_run()
    return replace(run, results=run.results[:36] + run.results[-12:])


@cache
def small_comparison() -> Comparison:
    return compare(small_run())


outcomes = st.lists(st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False, None])), max_size=30)


@given(outcomes)
def test_ledger_counts_add_up(outcomes: list[tuple[bool | None, bool | None]]) -> None:
    comparison = compare(run_of(*(both(f"facts/{i}", *pair, category=f"c{i % 3}") for i, pair in enumerate(outcomes))))

    counts = Counter(entry.state for entry in comparison.ledger)
    assert len(comparison.ledger) + len(comparison.unscored) == len(outcomes)
    if "accuracy" not in comparison.measures:
        assert not comparison.ledger
        return
    accuracy = comparison.measures["accuracy"]
    assert accuracy.baseline is not None
    assert accuracy.candidate is not None
    assert (accuracy.fixed, accuracy.broken) == (counts["fixed"], counts["broken"])
    assert accuracy.baseline.passed == counts["broken"] + counts["still_right"]
    assert accuracy.candidate.passed == counts["fixed"] + counts["still_right"]
    assert accuracy.candidate.n == sum(counts.values())
    parts = [measures["accuracy"] for name, measures in comparison.slices.items() if name.startswith("category:")]
    assert sum(part.fixed or 0 for part in parts) == counts["fixed"]
    assert sum(part.candidate.n for part in parts if part.candidate) == len(comparison.ledger)
