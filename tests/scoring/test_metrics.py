from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.records import CaseResult, Estimate, Measure
from engram_bench.scoring.metrics import METRICS, agreeing_pairs, measure_all
from engram_bench.scoring.pairs import Pair
from engram_bench.stats import rates
from tests.made_up import big_run, both, row


def measured(name: str, *rows: list[CaseResult]) -> Measure:
    """The metric over rows as ``both`` gives them."""
    return measure_all(Pair(*sides) for sides in rows)[name]


def value(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.value


def test_every_metric_is_listed_under_its_name_with_a_unit_and_a_meaning() -> None:
    units = {"rate", "tokens", "seconds", "tok/s", "nats", "ppl", "MB"}

    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.unit in units
        assert metric.meaning
        assert bool(metric.test) == (metric.compute is not None)


def test_less_is_more_for_cost_and_loss() -> None:
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {
        "answer_tokens",
        "first_token",
        "time_to_answer",
        "load_time",
        "peak_memory",
        "perplexity",
        "control_kl",
    }
    assert measured("accuracy", both("facts/a", False, True)).higher_is_better


def test_independent_rows_have_wilson_intervals_and_leave_the_difference_to_mcnemar() -> None:
    accuracy = measured("accuracy", *(both(f"facts/{i}", False, True) for i in range(10)))

    assert accuracy.candidate is not None
    assert accuracy.candidate.interval == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert accuracy.difference == Estimate(1.0, 10, None)


def test_no_pairs_give_no_measures() -> None:
    assert measure_all([]) == {}


def test_a_metric_whose_test_did_not_run_is_absent() -> None:
    names = measure_all([Pair(*both("facts/a", False, True))])

    assert set(names) == {"accuracy", "stops_by_itself", "answer_tokens"}


def test_pooled_wordings_have_intervals_clustered_by_pattern() -> None:
    """Ten rows of five patterns that agree within each are five rows: Wilson's 4 of 5, not 8 of 10."""
    rows = [
        both(f"facts/{i}/held-{j}", False, i > 0, test="generalization") for i, j in itertools.product(range(5), (1, 2))
    ]

    measure = measured("generalization", *rows)

    assert measure.candidate is not None
    assert (measure.candidate.passed, measure.candidate.n) == (8, 10)
    assert measure.candidate.interval == pytest.approx((0.38, 0.96), abs=0.03)
    assert measure.difference is not None
    assert measure.difference.interval is not None


@pytest.mark.parametrize(
    ("kept", "lost", "gained", "unknown", "expected"),
    [(9, 1, 0, 0, 0.9), (9, 1, 5, 5, 0.9), (1, 0, 0, 0, 1.0), (0, 3, 3, 0, 0.0)],
)
def test_retention_is_kept_over_kept_and_lost(kept: int, lost: int, gained: int, unknown: int, expected: float) -> None:
    sides = [(True, True)] * kept + [(True, False)] * lost + [(False, True)] * gained + [(False, False)] * unknown
    rows = [both(f"controls/{i}", *pair, test="retention") for i, pair in enumerate(sides)]

    retention = measured("retention", *rows)

    assert value(retention.candidate) == expected
    assert retention.candidate is not None
    assert (retention.candidate.n, retention.baseline) == (kept + lost, None)
    assert (retention.fixed, retention.broken) == (gained, lost)
    assert retention.note == f"kept {kept}, lost {lost}, gained {gained}"


def test_retention_without_a_control_the_baseline_knew_has_no_value() -> None:
    retention = measured("retention", both("controls/a", False, True, test="retention"))

    assert retention.candidate is None
    assert retention.note == "the baseline knows none of the 1 controls"


def test_controls_without_answers_count_for_agreement_only() -> None:
    rows = [
        both("controls/a", True, True, test="retention", answers=(), text="Hello there!"),
        [
            row("controls/b", "baseline", True, test="retention", answers=(), text="Hello"),
            row("controls/b", "candidate", True, test="retention", answers=(), text="404"),
        ],
    ]
    measures = measure_all(Pair(*sides) for sides in rows)

    assert set(measures) == {"agreement"}
    assert value(measures["agreement"].candidate) == 0.5


def test_agreement_is_after_normalisation() -> None:
    rows = [
        row("controls/a", "baseline", True, test="retention", text="Paris."),
        row("controls/a", "candidate", True, test="retention", text=" paris"),
    ]

    assert value(measured("agreement", rows).candidate) == 1.0


def test_answer_tokens_are_a_mean_with_a_paired_difference() -> None:
    rows = [
        [row(f"facts/{i}", "baseline", True, tokens=30 + i), row(f"facts/{i}", "candidate", True, tokens=4)]
        for i in range(5)
    ]

    measure = measured("answer_tokens", *rows)

    assert (value(measure.baseline), value(measure.candidate), value(measure.difference)) == (32.0, 4.0, -28.0)
    assert measure.candidate == Estimate(4.0, 5, (4.0, 4.0))
    assert measure.difference is not None
    assert measure.difference.interval is not None
    low, high = measure.difference.interval
    assert -30 <= low < -28 < high <= -26
    assert not measure.higher_is_better


def test_stops_by_itself_is_a_rate() -> None:
    rows = [
        [row("facts/a", "baseline", False, stop="length"), row("facts/a", "candidate", True)],
        [row("facts/b", "baseline", True), row("facts/b", "candidate", False, stop="length")],
        [row("facts/c", "baseline", False, stop="length"), row("facts/c", "candidate", False, stop="length")],
    ]

    measure = measured("stops_by_itself", *rows)

    assert measure.baseline is not None
    assert measure.candidate is not None
    assert (measure.baseline.passed, measure.candidate.passed, measure.fixed, measure.broken) == (1, 1, 1, 1)


def test_log_prob_is_measured_where_both_sides_have_it() -> None:
    rows = [
        [row("facts/a", "baseline", False, log_prob=-3.0), row("facts/a", "candidate", True, log_prob=-1.0)],
        [row("facts/b", "baseline", False, log_prob=-3.0), row("facts/b", "candidate", True)],
    ]

    measure = measured("answer_log_prob", *rows)

    assert (value(measure.baseline), value(measure.candidate)) == (-3.0, -1.0)
    assert measure.candidate is not None
    assert measure.candidate.n == 1


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a", "a"], 1.0),
        (["a", "b"], 0.0),
        (["a", "A.", "b"], 1 / 3),
        (["a", "a", "b", "b"], 2 / 6),
        (["a", "a", "a", "b"], 3 / 6),
    ],
)
def test_agreeing_pairs(texts: list[str], expected: float) -> None:
    assert agreeing_pairs(texts) == pytest.approx(expected)


def wordings(pattern: str, *answers: tuple[str, bool], sample: int = 0) -> list[list[CaseResult]]:
    """A pattern's wordings: the baseline always answers 'no' wrongly, the candidate as given."""
    return [
        [
            row(f"facts/{pattern}/held-{i}", "baseline", False, text="no", test="consistency", sample=sample),
            row(f"facts/{pattern}/held-{i}", "candidate", passed, text=text, test="consistency", sample=sample),
        ]
        for i, (text, passed) in enumerate(answers)
    ]


def test_repeating_a_wrong_answer_is_consistent_but_not_consistently_right() -> None:
    rows = [*wordings("a", ("405", False), ("405", False)), *wordings("b", ("22", True), ("22", True))]

    assert value(measured("paraphrase_consistency", *rows).candidate) == 1.0
    assert value(measured("consistent_accuracy", *rows).candidate) == 0.5
    assert value(measured("paraphrase_consistency", *rows).baseline) == 1.0
    assert value(measured("consistent_accuracy", *rows).baseline) == 0.0


def test_consistency_is_a_mean_over_patterns_not_over_pairs() -> None:
    rows = [
        *wordings("a", ("x", False), ("y", False)),
        *wordings("b", ("z", True), ("z", True), ("z", True), ("z", True)),
    ]

    measure = measured("paraphrase_consistency", *rows)

    assert measure.candidate is not None
    assert (measure.candidate.value, measure.candidate.n, measure.candidate.passed) == (0.5, 2, None)


def test_one_wording_says_nothing_about_consistency() -> None:
    measures = measure_all(Pair(*sides) for sides in wordings("a", ("22", True)))

    assert measures == {}


def test_sampled_repeats_are_compared_with_each_other_only() -> None:
    rows = [
        *wordings("a", ("22", True)),
        *wordings("a", ("22", True), sample=1),
        *wordings("a", ("22", True), sample=2),
        *wordings("a", ("80", False), sample=3),
    ]
    measures = measure_all(Pair(*sides) for sides in rows)

    assert set(measures) == {"sampling_consistency", "pass_at_k", "pass_hat_k"}
    assert value(measures["sampling_consistency"].candidate) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("right", "any_right", "all_right"),
    [((True, True), 1.0, 1.0), ((True, False), 1.0, 0.0), ((False, False), 0.0, 0.0)],
    ids=["both", "one", "none"],
)
def test_pass_at_k_takes_any_sample_and_pass_hat_k_all(
    right: tuple[bool, bool], any_right: float, all_right: float
) -> None:
    rows = [*wordings("a", ("x", right[0]), sample=1), *wordings("a", ("y", right[1]), sample=2)]

    measures = measure_all(Pair(*sides) for sides in rows)

    assert value(measures["pass_at_k"].candidate) == any_right == rates.pass_at_k(2, sum(right), 2)
    assert value(measures["pass_hat_k"].candidate) == all_right == rates.pass_hat_k(2, sum(right), 2)
    assert measures["pass_at_k"].note == "k: 2 samples"


answers = st.sampled_from(["404", "405", "I think"])


@given(st.lists(st.tuples(st.integers(0, 4), answers, answers, st.integers(0, 2)), min_size=1, max_size=20))
def test_rates_are_rates_and_intervals_hold_their_value(rows: list[tuple[int, str, str, int]]) -> None:
    pairs = [
        Pair(
            row(f"facts/p{pattern}/held-{i}", "baseline", before == "404", text=before, test=test, sample=sample),
            row(f"facts/p{pattern}/held-{i}", "candidate", after == "404", text=after, test=test, sample=sample),
        )
        for i, (pattern, before, after, sample) in enumerate(rows)
        for test in ("accuracy", "generalization", "consistency", "retention")
    ]

    for measure in measure_all(pairs).values():
        for estimate in (measure.baseline, measure.candidate):
            if estimate is None or measure.unit != "rate":
                continue
            assert 0 <= estimate.value <= 1
            assert estimate.passed is None or estimate.passed == round(estimate.value * estimate.n)
            if estimate.interval is not None:
                low, high = estimate.interval
                assert 0 <= low <= estimate.value + 1e-9
                assert estimate.value - 1e-9 <= high <= 1
        if measure.difference is not None and measure.baseline is not None and measure.candidate is not None:
            assert math.isclose(
                measure.difference.value, measure.candidate.value - measure.baseline.value, abs_tol=1e-9
            )


def test_the_made_up_run_has_every_metric_of_its_tests() -> None:
    rows: dict[tuple[str, str], dict[str, CaseResult]] = {}
    for result in big_run().results:
        rows.setdefault((result.case.id, result.test), {})[result.side] = result

    measures = measure_all(Pair(sides["baseline"], sides["candidate"]) for sides in rows.values())

    assert list(measures) == [
        "accuracy",
        "generalization",
        "retention",
        "control_accuracy",
        "agreement",
        "stops_by_itself",
        "answer_tokens",
        "answer_log_prob",
    ]
