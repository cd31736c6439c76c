from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.errors import GateSyntaxError, UsageError
from engram_bench.records import Measure, Run, Verdict
from engram_bench.records.comparison import Estimate
from engram_bench.scoring.candidate_gates import judge_candidates
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import judge, parse_gate, session_gates
from tests.made_up import both, candidate_run, run_of

# ── grammar ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "candidate", "scope", "over"),
    [
        ("careful.accuracy >= 90%", "careful", "", ""),
        ("careful.accuracy >= +5pp over fast", "careful", "", "fast"),
        ("accuracy >= -1pp over fast", "", "", "fast"),
        ("every.category:facts.accuracy >= 90%", "every", "category:facts", ""),
        ("careful.category:node.js & co.accuracy >= 90%", "careful", "category:node.js & co", ""),
        ("best.worst_category.accuracy >= 60%", "best", "worst_category", ""),
        ("worst_file.accuracy >= 60%", "", "worst_file", ""),
        ("qwen2.5-lora+keys.accuracy >= +5pp over v1.2", "qwen2.5-lora+keys", "", "v1.2"),
        ("lora.v2.worst_file.accuracy >= 60%", "lora.v2", "worst_file", ""),
        ("lora.v2.accuracy >= -1pp over a.b.c", "lora.v2", "", "a.b.c"),
        ("1.answer_tokens <= -3 tokens over 2", "1", "", "2"),
    ],
)
def test_a_gate_addresses_a_candidate(text: str, candidate: str, scope: str, over: str) -> None:
    gate = parse_gate(text)

    assert (gate.candidate, gate.scope, gate.over) == (candidate, scope, over)
    assert parse_gate(str(gate)) == gate
    assert gate.wanted.endswith(f" over {over}" if over else gate.unit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("careful.accuracy >= 90% over fast", "expected +90 or -90 over"),
        ("careful.accuracy >= +5pp over", "found no rule"),
        ("a b.accuracy >= 5%", "found no rule"),
        ("a..accuracy >= 5%", "found no rule"),
    ],
)
def test_a_comparison_without_a_sign_or_a_name_is_refused(text: str, message: str) -> None:
    with pytest.raises(GateSyntaxError, match=re.escape(message)):
        parse_gate(text)


NAMES = ("careful", "fast")


@pytest.mark.parametrize(
    ("text", "candidates", "message"),
    [
        (
            "carefull.accuracy >= 90%",
            NAMES,
            "found candidate 'carefull', expected one of careful, fast; did you mean 'careful'?",
        ),
        ("fast.accuracy >= +1pp over carful", NAMES, "did you mean 'careful'?"),
        ("bets.accuracy >= 90%", NAMES, "did you mean 'best'?"),
        ("fast.accuracy >= +1pp over best", NAMES, "found candidate 'best', expected one of careful, fast"),
        ("fast.accuracy >= +1pp over fast", NAMES, "found 'fast' on both sides"),
        ("fast.accuracy >= 90%", (), "expected no candidate's name: there is one candidate"),
    ],
)
def test_a_candidate_that_is_not_there_is_refused(text: str, candidates: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        session_gates([text], candidates=candidates)


# ── one run per candidate ───────────────────────────────────────────────────────────────────────

RIGHT, HALF = "1" * 20, "1" * 10 + "0" * 10


def verdict(text: str, **candidates: Run | dict[str, Run] | list[Run]) -> Verdict:
    (found,) = judge_candidates([parse_gate(text)], candidates)
    return found


def outcome(text: str, **candidates: Run | dict[str, Run] | list[Run]) -> str:
    return verdict(text, **candidates).outcome


@pytest.mark.parametrize(
    "gate",
    ["accuracy >= 90%", "accuracy >= +10pp", "accuracy >= +10%", "retention >= 90%", "worst_category.accuracy >= 50%"],
)
def test_a_gate_on_one_candidate_is_judged_as_in_its_own_session(gate: str) -> None:
    run = candidate_run(HALF)
    (alone,) = judge([parse_gate(gate)], compare(run))

    found = verdict(f"b.{gate}", a=candidate_run(RIGHT), b=run)

    assert (found.outcome, found.measured, found.reason, found.p_value) == (
        alone.outcome,
        alone.measured,
        alone.reason,
        alone.p_value,
    )


def test_over_is_the_paired_test_of_both() -> None:
    found = verdict("a.accuracy >= +5pp over b", a=candidate_run(RIGHT), b=candidate_run(HALF))

    assert found.outcome == "pass"
    assert found.measured == "+50.0 pp (20 of 20, b 10 of 20)"
    assert found.p_value == pytest.approx(2**-10)


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("a.accuracy >= +60pp over b", "fail"),
        ("b.accuracy >= -60pp over a", "pass"),
        ("c.accuracy >= +5pp over b", "insufficient"),
        ("a.generalization >= +5pp over b", "insufficient"),
        ("a.decode_speed >= +5% over b", "insufficient"),
        ("a.category:http_codes.accuracy >= +5pp over b", "pass"),
        ("a.category:htpp.accuracy >= +5pp over b", "insufficient"),
        ("a.worst_category.accuracy >= +5pp over b", "pass"),
        ("a.file:facts.accuracy >= +5pp over b", "pass"),
    ],
)
def test_verdicts_over_another_candidate(gate: str, expected: str) -> None:
    runs = {"a": candidate_run(RIGHT), "b": candidate_run(HALF), "c": candidate_run("1" * 12 + "0" * 8)}

    assert outcome(gate, **runs) == expected


def test_a_scope_that_is_not_there_is_said() -> None:
    found = verdict("a.category:htpp.accuracy >= +5pp over b", a=candidate_run(RIGHT), b=candidate_run(HALF))

    assert "no category 'htpp'" in found.reason


def test_candidates_without_a_common_case_are_insufficient() -> None:
    found = verdict("a.accuracy >= +5pp over b", a=candidate_run("1"), b=run_of(both("other/x", False, True)))

    assert (found.outcome, found.reason) == ("insufficient", "accuracy has no case in common with b")


def test_fewer_tokens_over_another_candidate_are_tested_over_patterns() -> None:
    def run(tokens: int) -> Run:
        return run_of(*(both(f"facts/{n}", True, True, tokens=tokens + n % 3) for n in range(12)))

    runs = {"short": run(3), "long": run(9)}

    assert outcome("short.answer_tokens <= -20% over long", **runs) == "pass"
    assert outcome("long.answer_tokens <= -20% over short", **runs) == "fail"


def test_every_is_the_worst_and_names_it() -> None:
    runs = {"a": candidate_run(RIGHT), "b": candidate_run(HALF), "c": candidate_run(RIGHT)}

    found = verdict("every.accuracy >= 90%", **runs)

    assert (found.outcome, found.measured) == ("fail", "50.0 % (10 of 20) in b")
    assert found.reason == "2 of 3 candidates pass"
    assert verdict("accuracy >= 90%", **runs).outcome == "fail"
    assert outcome("every.accuracy >= 50%", **runs) == "pass"


def test_every_over_another_leaves_that_one_out() -> None:
    runs = {"a": candidate_run(RIGHT), "b": candidate_run(HALF)}

    assert outcome("every.accuracy >= +5pp over b", **runs) == "pass"
    assert outcome("every.accuracy >= +5pp over b", b=candidate_run(HALF)) == "insufficient"


def test_the_best_pays_for_the_choice() -> None:
    """Five fixed and none broken are p = 0.03 alone, and chance as the best of three."""
    five = candidate_run("11111000000")
    runs = {"a": five, "b": candidate_run("0" * 11), "c": candidate_run("1" + "0" * 10)}

    alone, chosen = verdict("a.accuracy >= +10pp", **runs), verdict("best.accuracy >= +10pp", **runs)

    assert (alone.outcome, chosen.outcome) == ("pass", "insufficient")
    assert chosen.p_value == pytest.approx(3 * (alone.p_value or 0))
    assert chosen.measured.endswith(" in a")


def test_the_best_of_a_measure_that_should_be_low_is_the_lowest() -> None:
    runs = {n: run_of(both("facts/p", True, True, tokens=tokens)) for n, tokens in (("a", 9), ("b", 3), ("c", 5))}

    assert verdict("best.answer_tokens <= 4", **runs).measured.endswith("in b")


def test_holm_adjusts_over_all_gates() -> None:
    runs = {"a": candidate_run(RIGHT), "b": candidate_run(HALF)}
    gates = [parse_gate(text) for text in ("a.accuracy >= +5pp over b", "a.accuracy >= +5pp", "b.accuracy >= 10%")]

    found = judge_candidates(gates, runs)

    assert [each.p_value for each in found] == [pytest.approx(2**-10), pytest.approx(2 * 2**-20), None]


# ── seeds ───────────────────────────────────────────────────────────────────────────────────────


def recipe(*right: int, of: int = 100) -> dict[str, Run]:
    """A run per seed; seed s has the first right[s] of the cases."""
    return {f"s{n}": candidate_run("1" * each + "0" * (of - each)) for n, each in enumerate(right)}


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("r.accuracy >= 90%", "pass"),
        ("r.accuracy >= 94%", "insufficient"),
        ("r.accuracy >= 96%", "fail"),
        ("r.accuracy <= 99%", "pass"),
        ("r.accuracy >= +10pp", "pass"),
        ("r.accuracy >= -10pp over other", "pass"),
        ("r.accuracy >= +10pp over other", "fail"),
        ("r.accuracy >= +1pp over other", "insufficient"),
        ("r.accuracy >= +1pp over low", "pass"),
        ("single.accuracy >= +1pp over low", "pass"),
        ("r.accuracy >= +10%", "insufficient"),
        ("r.accuracy >= +10% over low", "pass"),
        ("r.category:http_codes.accuracy >= 90%", "pass"),
        ("r.category:nothing.accuracy >= 90%", "insufficient"),
        ("r.worst_category.accuracy >= 90%", "pass"),
        ("every.accuracy >= 40%", "pass"),
        ("r.retention >= 90%", "insufficient"),
    ],
)
def test_verdicts_on_a_recipe(gate: str, expected: str) -> None:
    candidates: dict[str, Run | dict[str, Run] | list[Run]] = {
        "r": recipe(94, 95, 96),
        "other": recipe(93, 94, 94),
        "low": recipe(50, 51, 52),
        "single": candidate_run("1" * 95 + "0" * 5),
    }

    assert outcome(gate, **candidates) == expected


def test_a_bound_that_does_not_hold_over_seeds_names_the_worst() -> None:
    found = verdict("r.accuracy >= 94%", r=recipe(94, 95, 96), other=recipe(90, 90))

    assert found.measured == "95.0 % (mean of 3 seeds, n 100)"
    assert found.reason == "does not hold over seeds: 92.5 to 97.5 %; worst seed s0: 94.0 %"


def test_a_gain_over_seeds_must_be_more_than_chance() -> None:
    """The same gain under every seed, on four cases of one hundred: another four cases might not have gained."""
    gain = verdict("r.accuracy >= +2pp over b", r=recipe(54, 54, 54), b=recipe(51, 51, 51))

    assert gain.outcome == "insufficient"
    assert "may be chance" in gain.reason


def test_a_metric_measured_once_per_run_is_judged_over_seeds() -> None:
    def run(ppl: float) -> Run:
        perplexity = Measure(
            "perplexity", "ppl", Estimate(10.0, 8), Estimate(ppl, 8), ratio=Estimate(ppl / 10, 8, (0.9, 1.2))
        )
        return run_of(both("facts/p", False, True), measures=(perplexity,))

    seeds = [run(10.1), run(10.2), run(10.15)]

    assert outcome("r.perplexity <= +5%", r=seeds, b=run(10)) == "pass"
    assert outcome("r.perplexity <= +1.6%", r=seeds, b=run(10)) == "insufficient"
    assert outcome("r.perplexity <= +1%", r=seeds, b=run(10)) == "fail"
    assert outcome("r.perplexity <= +1% over b", r=seeds, b=run(10)) == "insufficient"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=4), st.integers(1, 100))
def test_a_recipe_passes_no_bound_that_all_its_seeds_miss(right: list[int], bound: int) -> None:
    found = outcome(f"r.accuracy >= {bound}%", r=recipe(*right, of=30))

    assert found != "pass" or max(right) / 30 >= bound / 100
    if len(set(right)) == 1:
        assert (found == "pass") == (right[0] / 30 >= bound / 100 - 1e-9)
