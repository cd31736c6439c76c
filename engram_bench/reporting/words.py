"""Values in words, the same in every report."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engram_bench.door import printable
from engram_bench.records import (
    Comparison,
    Estimate,
    Measure,
    Provenance,
    Recipe,
    Run,
    Timing,
    TrainingRecord,
    Verdict,
    VerdictOutcome,
)
from engram_bench.scoring.figures import change

OUTCOMES: Mapping[VerdictOutcome, str] = {
    "pass": "passed",
    "fail": "failed",
    "insufficient": "insufficient",
    "not_measured": "not measured",
}


LONGEST_WORDS = 2000
"""Longest line on the origin of a run, in characters."""


def verdict_sentence(verdict: Verdict) -> str:
    """A verdict in words: ``gate failed: accuracy +0.0 pp (2 of 2, was 2 of 2), wanted at least +10 pp``."""
    subject = re.split(r"\s*[<>]=", verdict.gate)[0]
    measured = f"{subject} {verdict.measured}".rstrip()
    return f"gate {OUTCOMES[verdict.outcome]}: {measured}, wanted {verdict.wanted}"


def change_words(measure: Measure) -> str:
    """Change of a measure: the paired ratio, else the difference, with its interval; empty where neither was measured."""
    if measure.ratio is not None:
        return ratio_words(measure.ratio)
    if measure.difference is not None:
        value, interval = measure.difference.value, measure.difference.interval
        bounds = [change(bound, measure.unit).split(" ")[0] for bound in interval or ()]
        return change(value, measure.unit) + (f" ({' to '.join(bounds)})" if bounds else "")
    return ""


def ratio_words(ratio: Estimate) -> str:
    """A ratio as a change in per cent, ``-31.0 % (-33.1 to -29.2)``; without an interval for too few pairs."""
    bounds = f" ({' to '.join(map(_percent_off, ratio.interval))})" if ratio.interval else ""
    return f"{_percent_off(ratio.value)} %{bounds}"


def _percent_off(ratio: float) -> str:
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f}"


def outside(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    """Reason → ids of the cases that no count includes; a reason without cases is left out."""
    lists = {
        "not scored, so not passed": comparison.unscored,
        "only in the newer run": comparison.added,
        "only in the older run": comparison.removed,
    }
    return {words: ids for words, ids in lists.items() if ids}


def run_lines(run: Run) -> dict[str, str]:
    """Heading → one line on the run's provenance, training and timing; unknown values are left out."""
    provenance = run.provenance
    lines = {
        "name": run.candidate + f", recipe {run.recipe}" * bool(run.recipe),
        "model": provenance.model + f" ({provenance.model_fingerprint[:12]})" * bool(provenance.model_fingerprint),
        "baseline": run.baseline_model,
        "backend": ", ".join(dict.fromkeys((provenance.backend, provenance.device, provenance.dtype))),
        "machine": provenance.machine,
        "adapter": _adapter_words(provenance, run.training),
        "note": provenance.adapter_note,
        "time": _timing_words(run.timing),
        "reasoning": _reasoning_words(run),
        "run": ", ".join(filter(None, (run.name, f"commit {provenance.commit}" * bool(provenance.commit)))),
        "command": provenance.command,
    }
    return {heading: printable(line, LONGEST_WORDS) for heading, line in lines.items() if line}


def reasoning_counts(run: Run) -> dict[str, dict[str, int]]:
    """Side → how many of its answers came after reasoning, how many never came, and the tokens of all reasoning."""
    found: dict[str, dict[str, int]] = {}
    for row in run.results:
        if row.completion.reasoning:
            side = found.setdefault(row.side, {"answers": 0, "without_end": 0, "tokens": 0})
            side["answers"] += 1
            side["without_end"] += not row.completion.text
            side["tokens"] += row.completion.reasoning_tokens
    return found


def _reasoning_words(run: Run) -> str:
    return "; ".join(
        f"{side}: {counts['answers']:,} answers, {counts['tokens']:,} tokens"
        + (f", {counts['without_end']:,} without an end" if counts["without_end"] else "")
        for side, counts in reasoning_counts(run).items()
    )


def _adapter_words(provenance: Provenance, training: TrainingRecord | None) -> str:
    if not provenance.adapter:
        return "none: the candidate is the bare model"
    if training is None:
        return provenance.adapter
    return f"{provenance.adapter}: {training_words(training)}{_speed_words(training)}"


def training_words(training: TrainingRecord) -> str:
    """Figures of a training, with advice where the training ended before enough examples were recalled."""
    recall = "" if training.recall is None else f", recall {100 * training.recall:.1f} %"
    if training.recall_alone:
        alone = ", ".join(f"{name} {100 * share:.1f} %" for name, share in training.recall_alone.items())
        recall += f" (alone: {alone})"
    if training.recall is not None and training.recall < (enough := Recipe().min_recall):
        recall += f": the steps ended before {100 * enough:.0f} %; --engram-steps (--steps) allows more"
    return (
        f"{training.steps} steps, {training.examples} examples, {training.seconds:.1f} s, "
        f"loss {training.loss_start:.2f} → {training.loss_end:.2f}{recall}"
    )


def _speed_words(training: TrainingRecord) -> str:
    """Speed of a training, always with the device it ran on."""
    if not training.examples_seen or not training.seconds:
        return ""
    memory = f", {training.peak_memory_mb:.0f} MB" if training.peak_memory_mb else ""
    return (
        f"; {training.examples_per_s:.1f} examples/s, {training.tokens_per_s:.0f} tokens/s{memory} "
        f"on {training.backend} ({training.device}, {training.dtype})"
    )


def _timing_words(timing: Timing) -> str:
    if not timing.total_s:
        return ""
    return (
        f"train {timing.train_s:.1f} s, baseline {timing.baseline_s:.1f} s, candidate {timing.candidate_s:.1f} s, "
        f"in all {timing.total_s:.1f} s"
    )
