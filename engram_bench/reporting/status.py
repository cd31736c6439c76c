"""The training, evaluation and improvement tables of several runs, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from engram_bench.records import Comparison, Estimate, Measure, Run
from engram_bench.reporting.markdown import code, escaped
from engram_bench.reporting.tables import ReportTable
from engram_bench.reporting.words import change_words
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.figures import figure

METRICS = (
    "accuracy",
    "generalization",
    "consistent_accuracy",
    "paraphrase_consistency",
    "sampling_consistency",
    "retention",
    "decode_speed",
    "answer_tokens",
)
"""Metrics with a row in the evaluation and improvement tables, where a run measured them."""


def status_markdown(runs: Sequence[Run]) -> str:
    """Three tables with rows per run, and the command and commit of each run below; the text ends with a newline."""
    compared = [(run, compare(run)) for run in runs]
    blocks = [
        "### Training",
        _training(runs).markdown(escaped),
        "### Evaluation",
        _evaluation(compared).markdown(escaped),
        "### Improvement",
        _improvement(compared).markdown(escaped),
        "\n".join(_source(run) for run in runs),
    ]
    return "\n\n".join(blocks) + "\n"


def _training(runs: Sequence[Run]) -> ReportTable:
    rows = tuple(
        (
            _number(run),
            run.provenance.model,
            f"{run.provenance.backend}, {run.training.dtype}",
            str(run.training.examples),
            str(run.training.steps),
            f"{run.training.seconds:.1f}",
            f"{run.training.loss_start:.2f} → {run.training.loss_end:.2f}",
            "" if run.training.recall is None else f"{100 * run.training.recall:.1f} %",
        )
        for run in runs
        if run.training is not None
    )
    headers = ("run", "model", "backend", "examples", "steps", "seconds", "loss", "recall")
    return ReportTable("", headers, "lllrrrrr", rows)


def _evaluation(compared: Sequence[tuple[Run, Comparison]]) -> ReportTable:
    rows = [
        (
            _number(run),
            measure.name,
            str(measure.candidate.n),
            _side(measure.baseline, measure),
            _side(measure.candidate, measure),
        )
        for run, comparison in compared
        for measure in _measures(comparison)
        if measure.candidate is not None
    ]
    return ReportTable("", ("run", "metric", "n", "baseline", "candidate"), "llrrr", tuple(rows))


def _improvement(compared: Sequence[tuple[Run, Comparison]]) -> ReportTable:
    rows = [
        (_number(run), measure.name, change_words(measure), _counts(measure))
        for run, comparison in compared
        for measure in _measures(comparison)
        if change_words(measure)
    ]
    return ReportTable("", ("run", "metric", "change", "fixed / broken"), "llrr", tuple(rows))


def _measures(comparison: Comparison) -> list[Measure]:
    return [comparison.measures[name] for name in METRICS if name in comparison.measures]


def _side(estimate: Estimate | None, measure: Measure) -> str:
    if estimate is None:
        return ""
    counted = "" if estimate.passed is None else f" ({estimate.passed} of {estimate.n})"
    return figure(estimate.value, measure.unit) + counted


def _counts(measure: Measure) -> str:
    return "" if measure.fixed is None else f"{measure.fixed} / {measure.broken}"


def _number(run: Run) -> str:
    return run.name.split("-")[0]


def _source(run: Run) -> str:
    about = run.provenance
    commit = f", commit {escaped(about.commit)}" if about.commit else ""
    day = escaped(about.started[:10])
    return f"- Run {escaped(_number(run))}: {code(about.command)}{commit}, {day}, {escaped(about.machine)}"
