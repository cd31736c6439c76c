"""The values that a sweep may try."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.errors import UsageError
from engram_bench.session.space import combinations, parse_dimension, parse_space


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("rank=4..64", (4, 8, 16, 32, 64)),
        ("rank=3..50", (3, 6, 12, 24, 48, 50)),
        ("learning_rate=1e-4..1e-2", (1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2)),
        ("learning_rate = 1e-4, 1e-3,3e-3", (1e-4, 1e-3, 3e-3)),
        ("replay=0..4", (0, 1, 2, 3, 4)),
        ("layers=all,last 10", ("all", "last 10")),
        ("use_rslora=true,false", (True, False)),
        ("kind=lora,memory", ("lora", "memory")),
        ("learning_rate=3e-4..3e-3", (3e-4, 9.5e-4, 3e-3)),
    ],
)
def test_a_field_has_the_values_that_the_text_says(text: str, values: tuple[Any, ...]) -> None:
    dimension = parse_dimension(text)

    assert dimension.grid == values
    assert [type(value) for value in dimension.grid] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rank", "FIELD=VALUE"),
        ("=4", "FIELD=VALUE"),
        ("rank=", "FIELD=VALUE"),
        ("rank=,", "different values"),
        ("rank=4,4", "different values"),
        ("rank=a..b", "numbers at both ends"),
        ("rank=64..4", "a range that rises"),
        ("rank=4..4", "a range that rises"),
        ("rank=1..inf", "numbers at both ends"),
    ],
)
def test_a_text_of_another_shape_is_refused(text: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        parse_dimension(text)


def test_a_space_has_a_field_and_each_once() -> None:
    with pytest.raises(UsageError, match=r"got none, expected a field and its values"):
        parse_space([])
    with pytest.raises(UsageError, match=r"rank is given twice"):
        parse_space(["rank=4,8", "rank=16"])


def test_a_grid_is_every_combination() -> None:
    found = list(combinations(parse_space(["rank=4,8", "seed=0,1"])))

    assert found == [{"rank": rank, "seed": seed} for rank in (4, 8) for seed in (0, 1)]


@given(low=st.floats(-1e3, 1e6), factor=st.floats(1.001, 1e6))
def test_a_grid_stays_in_its_range_and_has_both_ends(low: float, factor: float) -> None:
    high = low + abs(low) * factor + 1e-3
    dimension = parse_dimension(f"x={low!r}..{high!r}")

    assert all(low <= value <= high for value in dimension.grid)
    assert dimension.grid == tuple(sorted(set(dimension.grid)))
    assert dimension.grid[0] == pytest.approx(low, rel=0.05, abs=1e-9)
    assert dimension.grid[-1] == pytest.approx(high, rel=0.05)
