"""A candidate set as one JSON document.

Within one ``schema`` number, keys are only added, never changed or removed::

    schema
    candidates      name, runs, seeds, model, backend, adapter, measures, train_s, unpaired, unscored of each
    alpha           level of the tests
    pairs           metric, first, second, difference, better, worse, unpaired, test, p_value, adjusted, outcome
    ranks           METRIC → NAME → rank
    pareto          axes, members, beaten_by, left_out; null where fewer than two axes were measured
    spreads         name, metric, values, mean, sd, low, high, worst_seed, interval, seeds_share, answer_shares
    flaky           name, case_id, test, right, wrong, prompt, source
    cases           case_id, split, category, source, prompt, expected, right (a share of seeds per candidate), answers
    verdicts        gate, outcome, measured, wanted, reason, p_value
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engram_bench.records import Verdict
from engram_bench.records.candidates import CandidateSet
from engram_bench.records.plain import to_plain

SCHEMA = 1
"""Number of the format."""


def candidate_json(found: CandidateSet, verdicts: Sequence[Verdict] = ()) -> dict[str, Any]:
    """The set and the verdicts of its gates as plain lists, dicts, strings and numbers."""
    return {"schema": SCHEMA, **to_plain(found), "verdicts": to_plain(list(verdicts))}
