from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.scoring.ranks import pareto_set, ranks

NAMES = "abcdef"


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        (set(), {"a": "1=", "b": "1=", "c": "1="}),
        ({("a", "b"), ("a", "c")}, {"a": "1", "b": "2=", "c": "2="}),
        ({("a", "c")}, {"a": "1=", "b": "1=", "c": "2"}),
        ({("a", "b"), ("b", "c")}, {"a": "1", "b": "2", "c": "3"}),
        ({("a", "b"), ("b", "a")}, {"a": "2=", "b": "2=", "c": "1"}),
    ],
    ids=["all-tied", "one-above-two", "middle-tied-with-both", "through-another", "circle"],
)
def test_a_rank_is_one_plus_those_really_better(better: set[tuple[str, str]], expected: dict[str, str]) -> None:
    assert ranks("abc", better) == expected


VALUES = st.lists(st.floats(0, 1), min_size=2, max_size=6)


@settings(max_examples=30, deadline=None)
@given(VALUES, st.floats(0, 0.5))
def test_no_candidate_ranks_below_one_that_it_beats(values: list[float], margin: float) -> None:
    """Whatever is called better: here, being ahead by a margin, which is not transitive for ties."""
    names = NAMES[: len(values)]
    by_name = dict(zip(names, values, strict=True))
    better = {(one, other) for one in names for other in names if by_name[one] > by_name[other] + margin}

    found = {name: int(rank.rstrip("=")) for name, rank in ranks(names, better).items()}

    assert all(found[one] < found[other] for one, other in better)
    assert found[max(by_name, key=by_name.__getitem__)] == 1


@settings(max_examples=30, deadline=None)
@given(st.permutations(NAMES), st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=9))
def test_ranks_do_not_depend_on_the_order(order: list[str], better: set[tuple[str, str]]) -> None:
    found = ranks(order, better)

    assert found == {name: ranks(NAMES, better)[name] for name in order}
    numbers = [rank.rstrip("=") for rank in found.values()]
    assert all(rank.endswith("=") == (numbers.count(rank.rstrip("=")) > 1) for rank in found.values())


def test_the_pareto_set_holds_what_no_other_equals_and_beats() -> None:
    found = pareto_set(
        {
            "held-out": {"slow": 0.9, "fast": 0.7, "worse": 0.7, "bare": 0.0, "made": 0.8},
            "retention": {"slow": 0.9, "fast": 0.9, "worse": 0.8, "bare": 1.0, "made": 0.9},
            "seconds": {"slow": 200.0, "fast": 20.0, "worse": 20.0, "bare": 0.0, "made": None},
        },
        lower_is_better=("seconds",),
    )

    assert found is not None
    assert found.members == ("slow", "fast", "bare")
    assert found.beaten_by == {"worse": "fast"}
    assert found.left_out == {"made": "seconds"}


def test_equal_candidates_are_both_in_the_pareto_set() -> None:
    found = pareto_set({"held-out": {"a": 0.5, "b": 0.5}, "retention": {"a": 0.5, "b": 0.5}})

    assert found is not None
    assert found.members == ("a", "b")


def test_an_axis_that_nothing_measured_does_not_count() -> None:
    values: dict[str, dict[str, float | None]] = {"held-out": {"a": 0.5}, "retention": {"a": None}}

    assert pareto_set(values) is None
    assert pareto_set({**values, "seconds": {"a": 1.0}}) is not None
