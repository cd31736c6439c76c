"""Ranks with ties, and the Pareto set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from engram_bench.records.candidates import ParetoSet


def ranks(names: Sequence[str], better: Collection[tuple[str, str]]) -> dict[str, str]:
    """Candidate → its rank: 1 plus the number of candidates that are really better; ``2=`` where several share rank 2.

    A candidate counts as better also where it is better than one that is better, so that no candidate ranks below
    another one that it beats. Two candidates with one rank may still differ: then both have the same number above them.

    Args:
        names: Candidates in order.
        better: (first, second) where the first is really better.
    """
    above: dict[str, set[str]] = {name: {first for first, second in better if second == name} for name in names}
    for through in names:  # transitive closure (Warshall 1962)
        for name in names:
            if through in above[name]:
                above[name] |= above[through]
    numbers = {name: 1 + len(above[name] - {name}) for name in names}
    shared = list(numbers.values())
    return {name: f"{number}{'=' if shared.count(number) > 1 else ''}" for name, number in numbers.items()}


def pareto_set(
    values: Mapping[str, Mapping[str, float | None]], lower_is_better: Collection[str] = ()
) -> ParetoSet | None:
    """The candidates that no other equals or beats on every axis and beats on one, by their values alone.

    Args:
        values: Axis → candidate → value. An axis that no candidate has does not count; a candidate that lacks one of the
            others is left out.
        lower_is_better: Axes on which the smaller value is better.

    Returns:
        The set; None for fewer than two axes.
    """
    axes = [axis for axis, by_name in values.items() if any(value is not None for value in by_name.values())]
    if len(axes) < 2:
        return None
    names = dict.fromkeys(name for axis in axes for name in values[axis])
    left_out = {name: axis for name in names for axis in reversed(axes) if values[axis].get(name) is None}
    points = {
        name: tuple((-1 if axis in lower_is_better else 1) * (values[axis][name] or 0.0) for axis in axes)
        for name in names
        if name not in left_out
    }

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(mine >= its for mine, its in zip(one, other, strict=True))

    beaten_by = {
        name: next((rival for rival, its in points.items() if beats(its, mine)), "") for name, mine in points.items()
    }
    members = tuple(name for name, rival in beaten_by.items() if not rival)
    return ParetoSet(tuple(axes), members, {name: rival for name, rival in beaten_by.items() if rival}, left_out)
