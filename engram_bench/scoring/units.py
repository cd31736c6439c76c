"""The single values behind each metric of the cases, so that the same case of two runs can be paired.

A *unit* is what a metric counts: a case, the wordings of a pattern, or the sampled repeats of a prompt. The mean of a
metric's units is its value in :func:`engram_bench.scoring.comparison.compare`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap

from engram_bench.records import CaseResult, Run
from engram_bench.scoring.comparison import scored_pairs
from engram_bench.scoring.metrics import METRICS, agreeing_pairs, groups_of, normalised, repeats_of
from engram_bench.scoring.pairs import Pair

Judge = Callable[[Sequence[CaseResult]], float]
Group = Sequence[Pair]


@dataclass(frozen=True, slots=True)
class Unit:
    """Value of one unit of a metric in one run."""

    key: Hashable
    """Equal in two runs where both asked the same: case, sample, prompt, accepted answers and matcher."""
    case_id: str
    """Id of the case; of several wordings or samples, the first."""
    pattern: tuple[str, str]
    """Pattern of the case, the unit of which tests assume that it varies independently."""
    category: str
    set_name: str
    candidate: float
    baseline: float

    def is_in(self, scope: str) -> bool:
        """Whether the unit belongs to ``category:NAME`` or ``file:NAME``; every unit belongs to the empty scope."""
        return scope in ("", f"category:{self.category}", f"file:{self.set_name}")


def units(run: Run) -> dict[str, list[Unit]]:
    """Metric → its units in order of the files; a metric without units is absent."""
    by_test: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in scored_pairs(run):
        by_test[pair.candidate.test].append(pair)
    found = {name: list(starmap(_unit, parts(by_test[METRICS[name].test]))) for name, parts in _PARTS.items()}
    return {name: each for name, each in found.items() if each}


def question(row: CaseResult) -> tuple[Hashable, ...]:
    """Everything that makes two rows answers to the same question."""
    return (row.case.id, row.sample, row.case.prompt, row.case.answers, row.case.match)


def _unit(group: Group, judge: Judge) -> Unit:
    case = group[0].case
    return Unit(
        key=tuple(question(pair.candidate) for pair in group),
        case_id=case.id,
        pattern=group[0].pattern,
        category=case.category,
        set_name=case.set_name,
        candidate=judge([pair.candidate for pair in group]),
        baseline=judge([pair.baseline for pair in group]),
    )


def _first(value: Callable[[CaseResult], float]) -> Judge:
    return lambda rows: float(value(rows[0]))


_passes = _first(lambda row: row.score.passed)


def _rows(pairs: Iterable[Pair], value: Callable[[CaseResult], float]) -> Iterator[tuple[Group, Judge]]:
    """A unit per pair."""
    judge = _first(value)
    return (((pair,), judge) for pair in pairs)


def _passed(pairs: Iterable[Pair]) -> Iterator[tuple[Group, Judge]]:
    return (((pair,), _passes) for pair in pairs if pair.case.answers)


def _known(pairs: Iterable[Pair]) -> Iterator[tuple[Group, Judge]]:
    return _passed(pair for pair in pairs if pair.baseline.score.passed)


def _agreeing(pairs: Iterable[Pair]) -> Iterator[tuple[Group, Judge]]:
    for pair in pairs:
        wanted = normalised(pair.baseline.completion.said)
        yield (pair,), _first(lambda row, wanted=wanted: normalised(row.completion.said) == wanted)  # type: ignore[misc]


def _likelihoods(
    value: Callable[[CaseResult], float | None],
) -> Callable[[Iterable[Pair]], Iterator[tuple[Group, Judge]]]:
    """A unit per pair of which both sides have the value."""

    def parts(pairs: Iterable[Pair]) -> Iterator[tuple[Group, Judge]]:
        having = (pair for pair in pairs if None not in (value(pair.baseline), value(pair.candidate)))
        return _rows(having, lambda row: value(row) or 0.0)

    return parts


def _wordings(judge: Judge) -> Callable[[Iterable[Pair]], Iterator[tuple[Group, Judge]]]:
    def parts(pairs: Iterable[Pair]) -> Iterator[tuple[Group, Judge]]:
        groups = groups_of((pair for pair in pairs if not pair.is_sampled), lambda pair: pair.pattern)
        return ((group, judge) for group in groups)

    return parts


def _samples(judge: Judge) -> Callable[[Iterable[Pair]], Iterator[tuple[Group, Judge]]]:
    return lambda pairs: ((group, judge) for group in repeats_of(pairs))


def _agreement(rows: Sequence[CaseResult]) -> float:
    return agreeing_pairs([row.completion.said for row in rows])


def _all_pass(rows: Sequence[CaseResult]) -> float:
    return float(all(row.score.passed for row in rows))


def _any_passes(rows: Sequence[CaseResult]) -> float:
    return float(any(row.score.passed for row in rows))


def _is_confident(row: CaseResult) -> float | None:
    return None if row.min_prob is None else float(row.min_prob > 0.5)


_PARTS: Mapping[str, Callable[[Iterable[Pair]], Iterator[tuple[Group, Judge]]]] = {
    "accuracy": _passed,
    "generalization": _passed,
    "consistent_accuracy": _wordings(_all_pass),
    "paraphrase_consistency": _wordings(_agreement),
    "sampling_consistency": _samples(_agreement),
    "pass_at_k": _samples(_any_passes),
    "pass_hat_k": _samples(_all_pass),
    "retention": _known,
    "control_accuracy": _passed,
    "agreement": _agreeing,
    "stops_by_itself": lambda pairs: _rows(pairs, lambda row: row.completion.stop_reason == "stop"),
    "answer_tokens": lambda pairs: _rows(pairs, lambda row: row.completion.answer_tokens),
    "answer_log_prob": _likelihoods(lambda row: row.log_prob),
    "answer_confidence": _likelihoods(_is_confident),
}
"""Metric → function that splits the pairs of its test into units, each with the function that gives its value."""

COUNTED = frozenset(METRICS) & _PARTS.keys() - {
    "paraphrase_consistency",
    "sampling_consistency",
    "answer_tokens",
    "answer_log_prob",
}
"""Metrics whose units are right or wrong; the units of the others have any value."""

WITHOUT_BASELINE = frozenset({"retention", "agreement"})
"""Metrics that count from the baseline, which has no value of its own."""
