"""Every case with the answers of all candidates: who is right where, which cases are flaky, which are not shared."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from statistics import fmean

from engram_bench.records import CaseResult, Run
from engram_bench.records.candidates import CaseOfAll, FlakyCase
from engram_bench.scoring.comparison import LEDGER_TESTS
from engram_bench.scoring.lineup import Lineup
from engram_bench.scoring.units import question

Rows = dict[Hashable, CaseResult]


def all_cases(lineup: Lineup) -> Iterator[CaseOfAll]:
    """The seen, held-out and control cases of all candidates in order of the files."""
    rows = [[_listed(run) for run in by_seed.values()] for by_seed in lineup.runs.values()]
    found = {key: row for seeds in rows for by_key in seeds for key, row in by_key.items()}
    for key in sorted(found, key=lambda key: _position(found[key])):
        case = found[key].case
        yield CaseOfAll(
            case_id=case.id,
            split=case.split,
            category=case.category,
            source=case.source,
            prompt=case.prompt.user,
            expected=case.answers[0],
            right=tuple(_share([by_key.get(key) for by_key in seeds]) for seeds in rows),
            answers=tuple(seeds[0][key].completion.text if key in seeds[0] else "" for seeds in rows),
        )


def flaky_cases(lineup: Lineup) -> Iterator[FlakyCase]:
    """Cases that a recipe with several seeds answers correctly under some of its seeds only."""
    for name, by_seed in lineup.runs.items():
        rows = {seed: _listed(run) for seed, run in by_seed.items()}
        keys = {key: row for by_key in rows.values() for key, row in by_key.items()}
        for key in sorted(keys, key=lambda key: _position(keys[key])):
            outcomes = {seed: by_key[key].score for seed, by_key in rows.items() if key in by_key}
            right = tuple(seed for seed, score in outcomes.items() if score.outcome == "passed")
            wrong = tuple(seed for seed, score in outcomes.items() if score.outcome == "failed")
            if right and wrong:
                row = keys[key]
                yield FlakyCase(name, row.case.id, row.test, right, wrong, row.case.prompt.user, row.case.source)


def unpaired_cases(lineup: Lineup) -> dict[str, tuple[str, ...]]:
    """Candidate → ids of its cases that not every other candidate answered under every seed, in order of their ids.

    Consistency cases count as the cases of their wordings; controls that a baseline does not know are no such cases.
    """
    asked = {
        name: [
            {(question(row), row.test): row.case.id for row in run.results if row.side == "candidate"}
            for run in runs.values()
        ]
        for name, runs in lineup.runs.items()
    }
    everywhere = set.intersection(*(set(by_key) for seeds in asked.values() for by_key in seeds))
    return {
        name: tuple(sorted({case for by_key in seeds for key, case in by_key.items() if key not in everywhere}))
        for name, seeds in asked.items()
    }


def _listed(run: Run) -> Rows:
    """The rows of a run's candidate that a ledger lists, by question and test."""
    return {
        (question(row), row.test): row
        for row in run.results
        if row.side == "candidate" and row.test in LEDGER_TESTS and row.case.answers
    }


def _share(rows: list[CaseResult | None]) -> float | None:
    scored = [row.score.passed for row in rows if row is not None and row.score.outcome != "not_scored"]
    return fmean(scored) if scored else None


def _position(row: CaseResult) -> tuple[str, int, int, str, str]:
    case = row.case
    return (case.source.path, case.source.line, len(case.id), case.id, row.test)
