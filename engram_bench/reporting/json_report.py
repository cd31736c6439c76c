"""The comparison as one JSON document: ``reports/latest.json``.

Within one ``schema`` number, keys are only added, never changed or removed::

    schema, run
    candidate, recipe, group, baseline_model
                    name of the candidate, of its recipe, of the first run of its session, and the baseline's model where
                    it is another one; each empty in most sessions of one candidate
    provenance      model, model_fingerprint, backend, device, dtype, adapter, commit, machine, command, started, versions,
                    adapter_note (why a library computed the adapter; empty for most)
    metrics         NAME → unit, higher_is_better, baseline, candidate, difference, difference_pp, ratio, fixed, broken, note
                    a side, difference or ratio is {value, n, passed, interval} or null; difference_pp is null except
                    for rates; a timed metric has the sides baseline, candidate (adapter attached) and fused (compared
                    with the baseline), each with tok_s, iqr, p50_ms, p90_ms, rounds, tokens, batch, peak_memory_mb,
                    and its interval is the ratio's
    speed           every timed side: test, side, batch, …, and the ratio of each pair
    categories      NAME → METRIC → as above; files likewise
    ledger          fixed, broken, still_right, still_wrong (counts over all splits)
                    splits: seen | held_out | control → the same counts; cases: id → state
    unscored        ids of cases without a score
    guards          guard, set_name, outcome (holds | broken | not_told), reason of each sanity guard that was checked
    training        the training record without its losses, or null
    sweep           checkpoint, step, recall, held_out, retention of each checkpoint; empty without --engram-sweep
    verdicts        gate, outcome, measured, wanted, reason, p_value
    timing          train_s, baseline_s, candidate_s, total_s
    reasoning       SIDE → answers, without_end, tokens, for sides that thought aloud; empty otherwise
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from engram_bench.records import (
    Comparison,
    Estimate,
    LedgerEntry,
    Measure,
    Run,
    Side,
    SpeedSummary,
    Split,
    State,
    TrainingRecord,
    Verdict,
)
from engram_bench.reporting.words import reasoning_counts

SCHEMA = 1
"""Number of the format."""


def json_report(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The comparison as plain lists, dicts, strings and finite numbers; NaN and infinity become None."""
    report = {
        "schema": SCHEMA,
        "run": run.name,
        "candidate": run.candidate,
        "recipe": run.recipe,
        "group": run.group,
        "baseline_model": run.baseline_model,
        "provenance": asdict(run.provenance),
        "metrics": _with_sides(_metrics(comparison.measures), comparison.speed),
        "speed": [asdict(summary) for summary in comparison.speed],
        "categories": _slices(comparison, "category:"),
        "files": _slices(comparison, "file:"),
        "ledger": _ledger(comparison.ledger),
        "unscored": list(comparison.unscored),
        "guards": [asdict(guard) for guard in run.guards],
        "training": _training(run.training),
        "sweep": [asdict(point) for point in run.sweep],
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "timing": asdict(run.timing),
        "reasoning": reasoning_counts(run),
    }
    if comparison.added or comparison.removed:
        report |= {"added": list(comparison.added), "removed": list(comparison.removed)}
    plain: dict[str, Any] = _finite(report)
    return plain


def json_text(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """The JSON report as indented ASCII text that ends with a newline; lone surrogates in an answer survive."""
    return json.dumps(json_report(run, comparison, verdicts), indent=2, allow_nan=False) + "\n"


def _metrics(measures: Mapping[str, Measure]) -> dict[str, Any]:
    return {name: _metric(measure) for name, measure in measures.items()}


def _with_sides(metrics: dict[str, Any], speed: Sequence[SpeedSummary]) -> dict[str, Any]:
    """The metrics; a timed one gets the figures of every side of the same test and batch."""
    for summary in speed:
        if summary.side == "fused" and summary.metric in metrics and summary.ratio:
            metric = metrics[summary.metric]
            same = [other for other in speed if (other.test, other.batch) == (summary.test, summary.batch)]
            metric["interval"] = metric["ratio"]["interval"] if metric["ratio"] else None
            beside = dict(
                metric["baseline"]
            )  # the baseline's rounds in the pairs, for a baseline without a test of its own
            beside["tok_s"] = beside["value"] if metric["unit"] == "tok/s" else None
            sides: dict[str, Any] = dict.fromkeys(get_args(Side)) | {"baseline": beside}
            metric |= sides | {other.side: _timed(other) for other in same}
    return metrics


def _timed(summary: SpeedSummary) -> dict[str, Any]:
    shown = summary.tok_s or Estimate(summary.p50_s, summary.rounds)
    return {
        **asdict(shown),
        "tok_s": summary.tok_s.value if summary.tok_s else None,
        "iqr": summary.tok_s_iqr,
        "p50_ms": 1000 * summary.p50_s,
        "p90_ms": 1000 * summary.p90_s,
        "rounds": summary.rounds,
        "tokens": summary.tokens,
        "batch": summary.batch,
        "peak_memory_mb": summary.peak_memory_mb,
    }


def _metric(measure: Measure) -> dict[str, Any]:
    is_rate = measure.unit == "rate" and measure.difference is not None
    return {
        "unit": measure.unit,
        "higher_is_better": measure.higher_is_better,
        "baseline": _estimate(measure.baseline),
        "candidate": _estimate(measure.candidate),
        "difference": _estimate(measure.difference),
        "difference_pp": round(100 * measure.difference.value, 9) if is_rate and measure.difference else None,
        "ratio": _estimate(measure.ratio),
        "fixed": measure.fixed,
        "broken": measure.broken,
        "note": measure.note,
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)


def _slices(comparison: Comparison, kind: str) -> dict[str, Any]:
    return {
        name.removeprefix(kind): _metrics(measures)
        for name, measures in comparison.slices.items()
        if name.startswith(kind)
    }


def _ledger(ledger: Sequence[LedgerEntry]) -> dict[str, Any]:
    return {
        **_counts(ledger),
        "splits": {split: _counts(entry for entry in ledger if entry.split == split) for split in get_args(Split)},
        "cases": {entry.case_id: entry.state for entry in ledger},
    }


def _counts(entries: Iterable[LedgerEntry]) -> dict[str, int]:
    counts = Counter(entry.state for entry in entries)
    return {state: counts[state] for state in get_args(State)}


def _training(training: TrainingRecord | None) -> dict[str, Any] | None:
    if training is None:
        return None
    record = {name: value for name, value in asdict(training).items() if name != "losses"}
    return {**record, "examples_per_s": training.examples_per_s, "tokens_per_s": training.tokens_per_s}


def _finite(value: Any) -> Any:
    """The value with lists in place of tuples and None in place of numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
