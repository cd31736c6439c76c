"""Comparisons of the two sides of a run, or of two runs, aligned case by case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from engram_bench.records import Case, CaseResult, Comparison, LedgerEntry, Measure, Run, State
from engram_bench.scoring.metrics import measure_all
from engram_bench.scoring.pairs import Pair
from engram_bench.scoring.speed import speed_measures, summarise
from engram_bench.scoring.speed_since import speed_since

LEDGER_TESTS = ("accuracy", "generalization", "retention")
"""Tests whose cases get a ledger entry; other tests ask the same cases again."""

MACHINE_UNITS = ("tok/s", "seconds", "MB")
"""Units of figures that depend on the machine and the day as much as on the model."""

STATES: Mapping[tuple[bool, bool], State] = {
    (False, True): "fixed",
    (True, False): "broken",
    (True, True): "still_right",
    (False, False): "still_wrong",
}
"""(baseline passed, candidate passed) → state of the case."""

_Key = tuple[str, str, int]


def compare(run: Run, *, slices: bool = True) -> Comparison:
    """The comparison of a run's candidate with its baseline, row by row of the same case, test and sample.

    No count includes a row that only one side has, or that a matcher could not score: its case is in ``unscored``, beside
    the run's ``missing``. The order of the results does not matter. The run's measures from outside the cases are part of
    the comparison, and so are the measures of timed rounds.

    Args:
        run: Run with the results of both sides.
        slices: Whether to measure every category and every file too, which takes most of the time.
    """
    pairs, one_sided = _pairs(run)
    measures = (*run.measures, *speed_measures(run.speed).values())
    found = _comparison(pairs, measures, unscored=(*one_sided, *run.missing), is_sliced=slices)
    return replace(found, speed=summarise(run.speed))


def scored_pairs(run: Run) -> list[Pair]:
    """The pairs behind the figures of :func:`compare`, in order of the files."""
    return sorted(_scored(_pairs(run)[0]), key=_position)


def compare_runs(old: Run, new: Run) -> Comparison:
    """The comparison of the newer run's candidate with the older run's candidate, which takes the baseline's part.

    A case counts where prompt, answers and matcher are the same in both runs. All other cases are in ``added`` and
    ``removed`` only. Measures from outside the cases are listed for both runs without a difference. Of the measures that depend
    on the machine only paired speeds are compared, each run against its own baseline.

    Args:
        old: The older run.
        new: The newer run.
    """
    before, after = _rows(old.results, "candidate"), _rows(new.results, "candidate")
    asked_before, asked_after = _questions(before), _questions(after)
    same = {case_id for case_id, question in asked_after.items() if asked_before.get(case_id) == question}
    pairs = [Pair(before[key], after[key]) for key in before.keys() & after.keys() if key[0] in same]
    return _comparison(
        pairs,
        (*_side_by_side(old.measures, new.measures), *speed_since(old, new)),
        unscored=(*old.missing, *new.missing),
        added=sorted(asked_after.keys() - same),
        removed=sorted(asked_before.keys() - same),
    )


def _comparison(
    pairs: Iterable[Pair],
    measures: Iterable[Measure],
    *,
    unscored: Iterable[str],
    added: Sequence[str] = (),
    removed: Sequence[str] = (),
    is_sliced: bool = True,
) -> Comparison:
    pairs = sorted(pairs, key=_position)
    crashed, scored = [pair for pair in pairs if not _is_scored(pair)], _scored(pairs)
    slices: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in scored if is_sliced else ():
        slices[f"category:{pair.case.category}"].append(pair)
        slices[f"file:{pair.case.set_name}"].append(pair)
    return Comparison(
        measures=measure_all(scored) | {measure.name: measure for measure in measures},
        slices={name: measure_all(part) for name, part in slices.items()},
        ledger=tuple(_entry(pair) for pair in scored if pair.candidate.test in LEDGER_TESTS and pair.case.answers),
        unscored=tuple(sorted({*(pair.case.id for pair in crashed), *unscored})),
        added=tuple(added),
        removed=tuple(removed),
    )


def _pairs(run: Run) -> tuple[list[Pair], list[str]]:
    """Rows of the same case, test and sample on both sides of a run, and the ids of cases that only one side has."""
    baseline, candidate = _rows(run.results, "baseline"), _rows(run.results, "candidate")
    one_sided = [(baseline.get(key) or candidate[key]).case.id for key in baseline.keys() ^ candidate.keys()]
    return [Pair(baseline[key], candidate[key]) for key in baseline.keys() & candidate.keys()], one_sided


def _scored(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that figures are computed from: a pattern is correct under every wording only if every wording was scored."""
    incomplete = {pair.pattern for pair in pairs if pair.candidate.test == "consistency" and not _is_scored(pair)}
    return [
        pair
        for pair in pairs
        if _is_scored(pair) and not (pair.candidate.test == "consistency" and pair.pattern in incomplete)
    ]


def _rows(results: Iterable[CaseResult], side: str) -> dict[_Key, CaseResult]:
    return {(row.case.id, row.test, row.sample): row for row in results if row.side == side}


def _position(pair: Pair) -> tuple[str, int, int, str, str, int]:
    """Position of a pair in the order of the files, with ``held-2`` before ``held-10``."""
    case, row = pair.case, pair.candidate
    return (case.source.path, case.source.line, len(case.id), case.id, row.test, row.sample)


def _is_scored(pair: Pair) -> bool:
    """Whether both sides have a score; a case without accepted answers needs none."""
    return not pair.case.answers or "not_scored" not in (pair.baseline.score.outcome, pair.candidate.score.outcome)


def _entry(pair: Pair) -> LedgerEntry:
    case, before, after = pair.case, pair.baseline, pair.candidate
    return LedgerEntry(
        case_id=case.id,
        state=STATES[before.score.passed, after.score.passed],
        category=case.category,
        split=case.split,
        source=case.source,
        prompt=case.prompt.user,
        expected=case.answers[0],
        baseline=before.completion.text,
        candidate=after.completion.text,
        reason="" if after.score.passed else after.score.reason,
        required=case.required,
        baseline_reasoning=before.completion.reasoning,
        candidate_reasoning=after.completion.reasoning,
    )


def _questions(rows: Mapping[_Key, CaseResult]) -> dict[str, tuple[object, ...]]:
    """Case id → everything that decides which answers are correct."""

    def question(case: Case) -> tuple[object, ...]:
        return (case.prompt, case.answers, case.match)

    return {row.case.id: question(row.case) for row in rows.values()}


def _side_by_side(old: Iterable[Measure], new: Iterable[Measure]) -> list[Measure]:
    before = {measure.name: measure for measure in old if measure.unit not in MACHINE_UNITS}
    return [
        Measure(
            name=measure.name,
            unit=measure.unit,
            baseline=before[measure.name].candidate,
            candidate=measure.candidate,
            higher_is_better=measure.higher_is_better,
            note="two runs, not paired",
        )
        for measure in new
        if measure.name in before
    ]
