from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.errors import UsageError
from engram_bench.records import Run
from engram_bench.records.candidates import CandidateSet
from engram_bench.records.plain import from_plain, to_plain
from engram_bench.scoring.candidates import candidate_set
from engram_bench.scoring.lineup import Lineup
from engram_bench.scoring.spread import spread
from tests.made_up import TRAINING, both, candidate_run, run_of


def pair(found: CandidateSet, metric: str = "accuracy", first: str = "a", second: str = "b") -> tuple[object, ...]:
    (each,) = [p for p in found.pairs if (p.metric, p.first, p.second) == (metric, first, second)]
    return (each.better, each.worse, each.unpaired, each.outcome)


def test_candidates_are_paired_case_by_case() -> None:
    found = candidate_set(
        {"a": candidate_run("11111111"), "b": candidate_run("00000001"), "c": candidate_run("11111110")}
    )

    assert pair(found) == (7, 0, 0, "better")
    assert pair(found, second="c") == (1, 0, 0, "no_difference")
    assert pair(found, first="b", second="c") == (1, 7, 0, "no_difference")
    assert found.ranks["accuracy"] == {"a": "1=", "b": "2", "c": "1="}
    (first, *_) = found.candidates
    assert (first.measures["accuracy"].value, first.measures["accuracy"].n) == (1.0, 8)


def test_values_of_one_candidate_are_those_of_its_own_comparison() -> None:
    from engram_bench.scoring.comparison import compare

    run = candidate_run("1101")

    (found, _) = candidate_set({"a": run, "b": run}).candidates

    expected = {name: measure.candidate for name, measure in compare(run).measures.items() if measure.candidate}
    assert found.measures == expected


def test_a_case_that_another_candidate_lacks_is_counted_and_named() -> None:
    more = candidate_run("111")
    other_prompt = run_of(both("facts/p0", False, True, prompt="Another?"), both("facts/p1", False, True))

    found = candidate_set({"a": more, "b": other_prompt})

    assert pair(found) == (0, 0, 3, "no_difference")
    assert [each.unpaired for each in found.candidates] == [("facts/p0", "facts/p2"), ("facts/p0",)]


def test_controls_that_one_baseline_does_not_know_are_unpaired_in_retention() -> None:
    def run(known: str) -> Run:
        return run_of(*(both(f"controls/{n}", mark == "1", True, test="retention") for n, mark in enumerate(known)))

    found = candidate_set({"a": run("1110"), "b": run("0111")})

    assert pair(found, "retention") == (0, 0, 2, "no_difference")
    assert pair(found, "control_accuracy") == (0, 0, 0, "no_difference")


def test_a_lower_number_of_tokens_is_better() -> None:
    def run(tokens: list[int]) -> Run:
        return run_of(*(both(f"facts/{n}", True, True, tokens=each) for n, each in enumerate(tokens)))

    found = candidate_set({"a": run([3, 4, 5, 3, 4, 5, 3, 4]), "b": run([9, 9, 8, 9, 9, 7, 9, 9])})

    assert pair(found, "answer_tokens") == (8, 0, 0, "better")
    assert found.ranks["answer_tokens"] == {"a": "1", "b": "2"}


@settings(max_examples=5, deadline=None)
@given(st.lists(st.text("01", min_size=12, max_size=12), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_decides_nothing(outcomes: list[str], random: object) -> None:
    runs = {f"c{number}": candidate_run(each) for number, each in enumerate(outcomes)}
    turned = dict(reversed(runs.items()))

    found, again = candidate_set(runs), candidate_set(turned)

    assert found.ranks["accuracy"] == again.ranks["accuracy"]
    opposite = {"better": "worse", "worse": "better", "no_difference": "no_difference"}
    there = {(p.first, p.second): p for p in found.pairs if p.metric == "accuracy"}
    back = {(p.second, p.first): p for p in again.pairs if p.metric == "accuracy"}
    assert there.keys() == back.keys()
    for key, each in there.items():
        assert each.adjusted == pytest.approx(back[key].adjusted)
        assert each.outcome == opposite[back[key].outcome]
        assert each.difference.value == pytest.approx(-back[key].difference.value)


def test_the_pareto_set_counts_seconds_of_training() -> None:
    run = run_of(
        both("facts/p/held-1", False, True, test="generalization"), both("controls/c", True, True, test="retention")
    )
    slow, fast = (replace(run, training=replace(TRAINING, seconds=seconds)) for seconds in (90.0, 9.0))
    bare = replace(run, provenance=replace(run.provenance, adapter=""))

    found = candidate_set({"slow": slow, "fast": fast, "imported": run, "bare": bare})

    assert found.pareto is not None
    assert found.pareto.axes == ("generalization", "retention", "train_s")
    assert found.pareto.members == ("bare",)
    assert found.pareto.beaten_by == {"slow": "fast", "fast": "bare"}
    assert found.pareto.left_out == {"imported": "train_s"}


# ── seeds ───────────────────────────────────────────────────────────────────────────────────────

SEEDS = {"7": candidate_run("1111110000"), "8": candidate_run("1111100000"), "9": candidate_run("1111111000")}


def test_a_recipe_is_its_mean_over_seeds() -> None:
    found = candidate_set({"a": SEEDS, "b": candidate_run("1111100000")})

    recipe, single = found.candidates
    assert (recipe.seeds, recipe.is_recipe, single.is_recipe) == (("7", "8", "9"), True, False)
    assert recipe.measures["accuracy"].value == pytest.approx(0.6)
    interval = recipe.measures["accuracy"].interval
    assert interval is not None
    assert 0 <= interval[0] < 0.6 < interval[1] <= 1


def test_the_spread_names_the_worst_seed_and_the_share_of_chance_that_seeds_bring() -> None:
    (found,) = [each for each in candidate_set({"a": SEEDS, "b": SEEDS["7"]}).spreads if each.metric == "accuracy"]

    assert found.values == pytest.approx({"7": 0.6, "8": 0.5, "9": 0.7})
    assert (found.mean, found.sd, found.low, found.high) == pytest.approx((0.6, 0.1, 0.5, 0.7))
    assert found.worst_seed == "8"
    assert found.interval == pytest.approx((0.6 - 0.2484, 0.6 + 0.2484), abs=1e-3)  # t = 4.303, sd / √3 = 0.0577
    # Seeds: 0.01 / 3. Cases: means 1 (five), 2/3, 1/3 and 0 (three) have the variance 0.2173, over ten cases.
    assert found.seeds_share == pytest.approx(0.003333 / (0.003333 + 0.021728), rel=1e-3)
    assert found.answer_shares is not None
    assert sum(found.answer_shares) == pytest.approx(1)


def test_a_case_right_under_some_seeds_is_flaky() -> None:
    found = candidate_set({"a": SEEDS, "b": SEEDS["7"]}).flaky

    assert [(each.name, each.case_id, each.right, each.wrong) for each in found] == [
        ("a", "facts/p5", ("7", "9"), ("8",)),
        ("a", "facts/p6", ("9",), ("7", "8")),
    ]


def test_a_spread_of_one_seed_is_refused() -> None:
    lineup = Lineup({"a": SEEDS["7"], "b": SEEDS})

    with pytest.raises(UsageError, match="candidate 'a': found 1 seed, expected at least 2 for a spread"):
        spread(lineup, "a", "accuracy")


@pytest.mark.parametrize(("candidates", "message"), [({}, "found none"), ({"a": []}, "'a': found no run")])
def test_no_candidate_and_no_run_are_refused(candidates: dict[str, list[Run]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        candidate_set(candidates)


def test_a_recipe_as_a_list_numbers_its_seeds() -> None:
    assert candidate_set({"a": list(SEEDS.values())}).candidates[0].seeds == ("1", "2", "3")


# ── cases ───────────────────────────────────────────────────────────────────────────────────────


def test_every_case_has_the_answers_of_all() -> None:
    crashed = run_of(both("facts/p0", None, None, line=1), both("facts/p1", False, True, line=2, text="yes"))

    found = candidate_set({"a": SEEDS, "b": candidate_run("10"), "c": crashed}).cases

    assert [(case.case_id, case.right) for case in found[:2]] == [
        ("facts/p0", (1.0, 1.0, None)),
        ("facts/p1", (1.0, 0.0, 1.0)),
    ]
    assert found[1].answers == ("404", "I think", "yes")
    assert list(found[5].right) == [pytest.approx(2 / 3), None, None]
    assert [case.case_id for case in found] == [f"facts/p{number}" for number in range(10)]


def test_a_set_is_json_and_back() -> None:
    found = candidate_set({"a": SEEDS, "b": candidate_run("1101"), "c": candidate_run("1")})

    assert from_plain(CandidateSet, to_plain(found)) == found
