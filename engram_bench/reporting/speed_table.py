"""Timed sides as a table: a row per test and side, with the verdict of its gate."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engram_bench.records import Comparison, SpeedSummary, Verdict
from engram_bench.reporting.tables import ReportTable
from engram_bench.reporting.words import OUTCOMES, ratio_words
from engram_bench.scoring.figures import number

_HEADERS = ("test", "side", "n", "tok/s (IQR)", "ms p50/p90", "against baseline")


def speed_table(comparison: Comparison, verdicts: Sequence[Verdict] = ()) -> ReportTable | None:
    """Rounds, median tok/s, milliseconds of a round and paired ratio of every timed side; None where no side was timed.

    A round of ``time to answer`` is one prompt answered to its end, so its p50 and p90 are the latency per prompt.
    """
    if not comparison.speed:
        return None
    conditions = "; ".join(dict.fromkeys(summary.conditions for summary in comparison.speed if summary.conditions))
    title = "speed: medians of timed rounds; ratio of pairs with 95 % interval" + f" ({conditions})" * bool(conditions)
    outcomes = {_metric(verdict): OUTCOMES[verdict.outcome] for verdict in verdicts}
    rows = tuple(_row(summary, outcomes.get(summary.metric, "")) for summary in comparison.speed)
    return ReportTable(title, _HEADERS, "llrrrl", rows)


def timed_metrics(comparison: Comparison) -> tuple[str, ...]:
    """Names of the metrics that the table shows."""
    return tuple(summary.metric for summary in comparison.speed if summary.metric)


def speed_name(summary: SpeedSummary) -> str:
    """The test in words: ``decode speed``, ``batch of 8``."""
    return f"batch of {summary.batch}" if summary.test == "batch_throughput" else summary.test.replace("_", " ")


def _row(summary: SpeedSummary, outcome: str) -> tuple[str, ...]:
    against = [ratio_words(summary.ratio)] if summary.ratio else []
    if outcome and outcome != OUTCOMES["not_measured"]:
        against.append(f"gate {outcome}")
    return (
        speed_name(summary),
        summary.side,
        str(summary.rounds),
        _speed_words(summary),
        f"{_ms(summary.p50_s)}/{_ms(summary.p90_s)}",
        ", ".join(against),
    )


def _speed_words(summary: SpeedSummary) -> str:
    if summary.tok_s is None or summary.tok_s_iqr is None:
        return ""
    low, high = (number(bound) for bound in summary.tok_s_iqr)
    return f"{number(summary.tok_s.value)} ({low}–{high})"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 0.01 else f"{1000 * seconds:.0f}"


def _metric(verdict: Verdict) -> str:
    """The text before a gate's operator: the metric, or for a gate on a slice a text that is no metric."""
    return re.split(r"\s*[<>]=", verdict.gate)[0].strip()
