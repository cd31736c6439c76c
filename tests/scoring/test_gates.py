from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.errors import GateSyntaxError, UsageError
from engram_bench.records import Comparison, Estimate, Measure, Verdict, VerdictOutcome
from engram_bench.scoring.gates import DEFAULT_GATES, Gate, judge, parse_gate, session_gates, session_passes
from engram_bench.scoring.metrics import METRICS

# ── grammar ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "scope", "metric", "operator", "relative", "number", "unit"),
    [
        ("accuracy >= +10pp", "", "accuracy", ">=", True, 10.0, "pp"),
        ("accuracy>=+10pp", "", "accuracy", ">=", True, 10.0, "pp"),
        ("  accuracy  >=  + 10 pp ", "", "accuracy", ">=", True, 10.0, "pp"),
        ("accuracy >= +10%", "", "accuracy", ">=", True, 10.0, "%"),
        ("accuracy >= 90%", "", "accuracy", ">=", False, 90.0, "%"),
        ("accuracy >= 0.9", "", "accuracy", ">=", False, 90.0, "%"),
        ("accuracy >= 1", "", "accuracy", ">=", False, 100.0, "%"),
        ("accuracy >= -0pp", "", "accuracy", ">=", True, 0.0, "pp"),
        ("decode_speed >= -5%", "", "decode_speed", ">=", True, -5.0, "%"),
        ("decode_speed >= -2.5 %", "", "decode_speed", ">=", True, -2.5, "%"),
        ("decode_speed >= 20 tok/s", "", "decode_speed", ">=", False, 20.0, "tok/s"),
        ("answer_tokens <= 12", "", "answer_tokens", "<=", False, 12.0, "tokens"),
        ("answer_tokens <= -3 tokens", "", "answer_tokens", "<=", True, -3.0, "tokens"),
        ("consistency >= +20pp", "", "consistent_accuracy", ">=", True, 20.0, "pp"),
        ("category:http_codes.accuracy >= 95%", "category:http_codes", "accuracy", ">=", False, 95.0, "%"),
        ("category:node.js & co.accuracy >= 95%", "category:node.js & co", "accuracy", ">=", False, 95.0, "%"),
        ("file:facts.generalization >= 80%", "file:facts", "generalization", ">=", False, 80.0, "%"),
        ("worst_category.accuracy >= 80%", "worst_category", "accuracy", ">=", False, 80.0, "%"),
    ],
)
def test_a_gate_is_read(
    text: str, scope: str, metric: str, operator: str, relative: bool, number: float, unit: str
) -> None:
    gate = parse_gate(text)

    assert gate == Gate(text, scope, metric, operator, relative, number, unit)
    assert gate.text == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accuracy",
        "accuracy > 1",
        "accuracy = 1",
        "accuracy >= ten",
        ">= 0.9",
        "accuracy >= 1e3",
        "accuracy >= nan",
        "accuracy >= +10pp and retention >= 90%",
        "folder:x.accuracy >= 90%",
        "category:.accuracy >= 90%",
        "accuracy >= " + "9" * 400,
    ],
    ids=lambda text: text[:20] or "empty",
)
def test_a_gate_off_the_grammar_is_refused_with_its_text_and_the_grammar(text: str) -> None:
    with pytest.raises(GateSyntaxError, match=re.escape(repr(text))) as caught:
        parse_gate(text)

    assert "METRIC >= or <= [+|-]NUMBER[pp|%|unit]" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("accuracy >= 10pp", "expected a sign before percentage points: +10pp or -10pp"),
        ("decode_speed >= +5pp", "expected % or tok/s: percentage points are for rates"),
        ("accuracy >= 90", "expected a rate of at most 1: 90%"),
        ("accuracy >= 101%", "expected a rate of at most 100%"),
        ("accuracy >= +0.1", "expected a unit after the number: pp (percentage points) or %"),
        ("decode_speed >= 95%", "expected a sign before the number: %"),
        ("accuracy >= 90 percent", "expected pp or %"),
        ("decode_speed >= 20 tokens", "expected tok/s or %"),
    ],
)
def test_a_unit_that_does_not_fit_is_refused_with_the_way_to_write_it(text: str, advice: str) -> None:
    with pytest.raises(GateSyntaxError, match=re.escape(advice)):
        parse_gate(text)


def test_an_unknown_metric_names_the_nearest_and_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"gate 'acuracy >= 90%': found metric 'acuracy', .*accuracy") as caught:
        parse_gate("acuracy >= 90%")

    assert "did you mean 'accuracy'?" in str(caught.value)
    assert "retention" in str(caught.value)


def test_a_metric_of_the_callers_own_is_known_when_it_says_so() -> None:
    assert parse_gate("politeness >= 3", known=["politeness"]).metric == "politeness"


@given(
    scope=st.sampled_from(["", "category:http codes", "file:facts", "worst_category", "worst_file"]),
    metric=st.sampled_from(sorted(METRICS)),
    operator=st.sampled_from([">=", "<="]),
    number=st.integers(-1000, 1000).map(lambda tenths: tenths / 10),
)
def test_a_gate_survives_being_written_and_read_again(scope: str, metric: str, operator: str, number: float) -> None:
    gate = Gate("", scope, metric, operator, True, number, "%")

    assert parse_gate(str(gate)) == gate


@given(st.text(max_size=40))
def test_any_text_is_a_gate_or_a_usage_error(text: str) -> None:
    try:
        gate = parse_gate(text)
    except UsageError:
        return

    assert parse_gate(str(gate)) == gate


def test_defaults_are_those_of_the_design() -> None:
    assert [gate.text for gate in DEFAULT_GATES] == [
        "accuracy >= +10pp",
        "consistency >= +20pp",
        "retention >= 90%",
        "decode_speed >= -5%",
    ]


def test_gates_of_the_users_replace_the_defaults() -> None:
    gates = session_gates(["accuracy >= 95%", "category:http.retention >= 80%"])

    assert [(gate.text, gate.is_default) for gate in gates] == [
        ("accuracy >= 95%", False),
        ("category:http.retention >= 80%", False),
    ]
    assert session_gates([]) == DEFAULT_GATES


# ── verdicts ────────────────────────────────────────────────────────────────────────────────────


def rate(name: str, n: int, was: int, now: int, fixed: int | None = None, broken: int = 0) -> Measure:
    if fixed is None:
        fixed, broken = max(0, now - was), max(0, was - now)
    return Measure(
        name,
        "rate",
        Estimate(was / n, n, (0.0, 1.0), was),
        Estimate(now / n, n, (0.0, 1.0), now),
        Estimate((fixed - broken) / n, n),
        fixed=fixed,
        broken=broken,
    )


def speed(ratio: float, low: float, high: float) -> Measure:
    return Measure(
        "decode_speed",
        "tok/s",
        Estimate(25.0, 8),
        Estimate(25.0 * ratio, 8),
        ratio=Estimate(ratio, 8, (low, high)),
    )


def tokens(was: float, now: float, low: float, high: float) -> Measure:
    return Measure(
        "answer_tokens",
        "tokens",
        Estimate(was, 20, (was - 1, was + 1)),
        Estimate(now, 20, (now - 1, now + 1)),
        Estimate(now - was, 20, (low, high)),
        higher_is_better=False,
    )


def verdict(text: str, *measures: Measure, slices: dict[str, Measure] | None = None) -> Verdict:
    comparison = Comparison(
        measures={measure.name: measure for measure in measures},
        slices={name: {measure.name: measure} for name, measure in (slices or {}).items()},
        ledger=(),
    )
    return judge([parse_gate(text)], comparison)[0]


@pytest.mark.parametrize(
    ("text", "measure", "outcome", "measured"),
    [
        ("accuracy >= +10pp", rate("accuracy", 131, 0, 125), "pass", "+95.4 pp (125 of 131, was 0 of 131)"),
        ("accuracy >= +10pp", rate("accuracy", 2, 2, 2), "fail", "+0.0 pp (2 of 2, was 2 of 2)"),
        ("accuracy >= +10pp", rate("accuracy", 10, 0, 1), "insufficient", "+10.0 pp (1 of 10, was 0 of 10)"),
        # one-sided exact p = 2^-5 = 0.031, and 2^-4 = 0.0625
        ("accuracy >= +10pp", rate("accuracy", 50, 0, 5), "pass", "+10.0 pp (5 of 50, was 0 of 50)"),
        ("accuracy >= +10pp", rate("accuracy", 40, 0, 4), "insufficient", "+10.0 pp (4 of 40, was 0 of 40)"),
        # same net gain, but 15 broken: P(X >= 20 | 35, 1/2) = 0.25
        (
            "accuracy >= +10pp",
            rate("accuracy", 50, 20, 25, 20, 15),
            "insufficient",
            "+10.0 pp (25 of 50, was 20 of 50)",
        ),
        ("accuracy >= +10%", rate("accuracy", 100, 50, 60), "pass", "+20.0 % (60 of 100, was 50 of 100)"),
        ("accuracy >= +10%", rate("accuracy", 100, 0, 60), "insufficient", "60 of 100, was 0 of 100"),
        ("accuracy >= 90%", rate("accuracy", 10, 0, 9), "pass", "90.0 % (9 of 10)"),
        ("accuracy >= 0.9", rate("accuracy", 10, 0, 9), "pass", "90.0 % (9 of 10)"),
        ("accuracy >= 91%", rate("accuracy", 10, 0, 9), "fail", "90.0 % (9 of 10)"),
        ("accuracy >= -5pp", rate("accuracy", 100, 90, 86), "pass", "-4.0 pp (86 of 100, was 90 of 100)"),
        ("accuracy >= -5pp", rate("accuracy", 100, 90, 84), "fail", "-6.0 pp (84 of 100, was 90 of 100)"),
        ("accuracy >= -0pp", rate("accuracy", 10, 10, 10), "pass", "+0.0 pp (10 of 10, was 10 of 10)"),
        ("decode_speed >= -5%", speed(0.99, 0.96, 1.02), "pass", "-1.0 % (-4.0 to +2.0, n 8)"),
        ("decode_speed >= -5%", speed(0.99, 0.94, 1.02), "insufficient", "-1.0 % (-6.0 to +2.0, n 8)"),
        ("decode_speed >= -5%", speed(0.80, 0.75, 0.94), "fail", "-20.0 % (-25.0 to -6.0, n 8)"),
        ("decode_speed >= 20", speed(0.99, 0.96, 1.02), "pass", "24.8 tok/s (n 8)"),
        ("answer_tokens <= 12", tokens(30.0, 4.0, -28.0, -24.0), "pass", "4.0 tokens (n 20)"),
        ("answer_tokens <= -20%", tokens(30.0, 4.0, -28.0, -24.0), "pass", "-86.7 % (4.0 tokens, was 30.0, n 20)"),
        (
            "answer_tokens <= -20%",
            tokens(30.0, 20.0, -21.0, 1.0),
            "insufficient",
            "-33.3 % (20.0 tokens, was 30.0, n 20)",
        ),
        ("answer_tokens <= -20%", tokens(30.0, 29.0, -2.0, 0.0), "fail", "-3.3 % (29.0 tokens, was 30.0, n 20)"),
        ("answer_tokens <= +3", tokens(30.0, 32.0, 1.0, 3.0), "pass", "+2.0 tokens (32.0 tokens, was 30.0, n 20)"),
    ],
)
def test_verdicts(text: str, measure: Measure, outcome: str, measured: str) -> None:
    found = verdict(text, measure)

    assert (found.outcome, found.measured) == (outcome, measured)
    assert found.gate == text


def test_a_verdict_says_what_was_wanted_in_words() -> None:
    assert verdict("accuracy >= +10pp", rate("accuracy", 2, 2, 2)).wanted == "at least +10 pp"
    assert verdict("answer_tokens <= 12", tokens(30, 4, -28, -24)).wanted == "at most 12 tokens"
    assert verdict("accuracy >= 0.9", rate("accuracy", 2, 2, 2)).wanted == "at least 90 %"


def test_a_gain_on_too_few_rows_says_how_many_it_takes() -> None:
    found = verdict("accuracy >= +10pp", rate("accuracy", 24, 0, 3))

    assert found.reason == "needs about 50 rows to show +10 pp; has 24"
    assert found.p_value == pytest.approx(0.125)


def test_a_gain_amid_much_change_needs_more_rows() -> None:
    found = verdict("accuracy >= +10pp", rate("accuracy", 100, 40, 50, 50, 40))

    assert found.reason == "needs about 270 rows to show +10 pp; has 100"


def test_several_relative_rate_gates_share_the_error_rate() -> None:
    """Holm: 2^-5 = 0.031 passes alone; beside a second gate of the same strength each counts 0.062."""
    comparison = Comparison(
        measures={name: rate(name, 50, 0, 5) for name in ("accuracy", "generalization")}, slices={}, ledger=()
    )

    alone = judge([parse_gate("accuracy >= +10pp")], comparison)
    both = judge([parse_gate("accuracy >= +10pp"), parse_gate("generalization >= +10pp")], comparison)

    assert [found.outcome for found in alone] == ["pass"]
    assert [found.outcome for found in both] == ["insufficient", "insufficient"]
    assert [found.p_value for found in both] == pytest.approx([0.0625, 0.0625])
    assert both[0].reason == "5 changes for and 0 against may be chance (p = 0.062, expected at most 0.05)"


def test_a_fall_within_the_tolerance_passes_and_is_named_where_it_is_real() -> None:
    chance = verdict("accuracy >= -5pp", rate("accuracy", 100, 90, 86))
    real = verdict("accuracy >= -5pp", rate("accuracy", 200, 180, 172))

    assert (chance.outcome, chance.reason) == ("pass", "")
    assert (real.outcome, real.reason) == (
        "pass",
        "within the tolerance, but the change is more than chance (p = 0.0039)",
    )


def test_a_gain_of_pooled_wordings_needs_the_clustered_interval_as_well() -> None:
    """Twelve rows of two patterns pass McNemar's test as if they were twelve patterns."""
    pooled = replace(rate("generalization", 12, 0, 6), difference=Estimate(0.5, 12, (0.0, 1.0)))

    found = verdict("generalization >= +10pp", pooled)

    assert (found.outcome, found.reason) == (
        "insufficient",
        "0 is in the interval of the difference, +0.0 pp to +100.0 pp",
    )


def test_a_relative_gain_over_nothing_is_undefined() -> None:
    found = verdict("accuracy >= +10%", rate("accuracy", 100, 0, 60))

    assert found.reason == "the baseline is 0, so a change in % is undefined: write +10pp"


def test_a_metric_nobody_measured_is_insufficient_only_where_a_user_asked() -> None:
    comparison = Comparison(measures={}, slices={}, ledger=())

    (asked,) = judge([parse_gate("retention >= 90%")], comparison)
    (default,) = judge([gate for gate in DEFAULT_GATES if gate.metric == "retention"], comparison)

    assert (asked.outcome, asked.measured, asked.reason) == ("insufficient", "", "retention was not measured")
    assert (default.outcome, default.measured) == ("not_measured", "")


def test_a_metric_measured_without_evidence_is_insufficient_even_by_default() -> None:
    empty = Measure("retention", "rate", None, None, note="the baseline knows none of the 12 controls")
    comparison = Comparison(measures={"retention": empty}, slices={}, ledger=())

    (found,) = judge([gate for gate in DEFAULT_GATES if gate.metric == "retention"], comparison)

    assert (found.outcome, found.reason) == ("insufficient", "the baseline knows none of the 12 controls")


def test_a_ratio_without_an_interval_decides_nothing() -> None:
    one_round = Measure("decode_speed", "tok/s", Estimate(25.0, 1), Estimate(26.0, 1), ratio=Estimate(1.04, 1))

    found = verdict("decode_speed >= -5%", one_round)

    assert (found.outcome, found.reason) == ("insufficient", "1 paired rounds give no interval")


def test_a_relative_gate_needs_a_baseline_value() -> None:
    retention = Measure("retention", "rate", None, Estimate(0.9, 20, (0.7, 1.0), 18))

    found = verdict("retention >= +5pp", retention)

    assert (found.outcome, found.reason) == ("insufficient", "retention has no baseline value to compare with")


def test_a_gate_on_a_slice_reads_that_slice() -> None:
    slices = {"category:http": rate("accuracy", 10, 0, 8), "category:git": rate("accuracy", 10, 0, 10)}

    found = verdict("category:http.accuracy >= 90%", rate("accuracy", 20, 0, 18), slices=slices)

    assert (found.outcome, found.measured) == ("fail", "80.0 % (8 of 10)")


def test_a_slice_that_is_not_there_is_insufficient_and_names_the_nearest() -> None:
    found = verdict("category:htp.accuracy >= 90%", slices={"category:http": rate("accuracy", 10, 0, 8)})

    assert (found.outcome, found.reason) == ("insufficient", "no category 'htp' in this run; did you mean 'http'?")


def test_the_worst_slice_is_judged_and_named() -> None:
    slices = {
        "category:http": rate("accuracy", 10, 0, 8),
        "category:git": rate("accuracy", 10, 0, 10),
        "file:facts": rate("accuracy", 10, 0, 1),
    }

    found = verdict("worst_category.accuracy >= 90%", slices=slices)

    assert (found.outcome, found.measured) == ("fail", "80.0 % (8 of 10) in http")


def test_the_worst_slice_of_a_relative_gate_is_the_one_that_moved_least() -> None:
    slices = {"category:http": rate("accuracy", 10, 0, 5), "category:git": rate("accuracy", 10, 10, 9, 0, 1)}

    found = verdict("worst_category.accuracy >= -0pp", slices=slices)

    assert (found.outcome, found.measured) == ("fail", "-10.0 pp (9 of 10, was 10 of 10) in git")


def test_nan_never_passes() -> None:
    broken = Measure("perplexity", "ppl", Estimate(10.0, 1), Estimate(float("nan"), 1))

    assert verdict("perplexity <= 20", broken).outcome == "insufficient"
    assert verdict("perplexity <= +5%", broken).outcome == "insufficient"


@given(st.lists(st.sampled_from(["pass", "fail", "insufficient", "not_measured"]), max_size=5))
def test_a_session_passes_when_no_gate_failed_or_lacked_evidence(outcomes: list[VerdictOutcome]) -> None:
    verdicts = [Verdict("accuracy >= 90%", outcome, "", "") for outcome in outcomes]

    assert session_passes(verdicts) == (not {"fail", "insufficient"} & set(outcomes))


@given(n=st.integers(5, 60), fixed=st.integers(0, 60), broken=st.integers(0, 60))
def test_a_gain_gate_passes_only_a_gain_that_is_large_and_real(n: int, fixed: int, broken: int) -> None:
    fixed, broken = min(fixed, n), min(broken, n - min(fixed, n))
    found = verdict("accuracy >= +10pp", rate("accuracy", n, broken, fixed, fixed, broken))

    if found.outcome == "pass":
        assert (fixed - broken) * 10 >= n
        assert found.p_value is not None
        assert found.p_value <= 0.05
    if (fixed - broken) * 10 < n:
        assert found.outcome == "fail"
