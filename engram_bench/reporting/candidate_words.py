"""A candidate set in sentences, the same in every report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from engram_bench.records.candidates import CandidateSet

HOW_TO_READ = (
    "A difference with * is real: its p-value, adjusted by Holm's method over all pairs of the measure, is at most "
    "{percent:g} %. A rank is 1 plus the number of candidates really better, and = marks a rank that several share."
)


def head_sentences(found: CandidateSet) -> Iterator[str]:
    """What was compared, and the cases that are not shared."""
    compared = f"{_counted(len(found.candidates), 'candidate')}, {_counted(len(found.cases), 'case')}."
    yield f"{compared} {HOW_TO_READ.format(percent=100 * found.alpha)}"
    for each in found.candidates:
        yield from _left_out_sentence(each.name, "not shared with every candidate", each.unpaired)
        yield from _left_out_sentence(each.name, "without a score", each.unscored)


def pareto_sentences(found: CandidateSet) -> Iterator[str]:
    """The Pareto set, and by whom the others are beaten."""
    if found.pareto is None:
        return
    axes = ", ".join(_AXES.get(axis, axis) for axis in found.pareto.axes)
    yield f"Pareto set ({axes}): {', '.join(found.pareto.members)}"
    if found.pareto.beaten_by:
        yield "beaten: " + ", ".join(f"{name} by {rival}" for name, rival in found.pareto.beaten_by.items())
    if found.pareto.left_out:
        yield "left out: " + ", ".join(f"{name} has no {axis}" for name, axis in found.pareto.left_out.items())


_AXES: Mapping[str, str] = {"train_s": "fewer training seconds"}


def _left_out_sentence(name: str, why: str, ids: Sequence[str]) -> Iterator[str]:
    if ids:
        more = f" … and {len(ids) - 5} more" if len(ids) > 5 else ""
        yield f"{name}: {len(ids)} cases {why}: {', '.join(ids[:5])}{more}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
