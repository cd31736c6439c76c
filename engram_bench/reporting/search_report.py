"""A sweep over recipes as a table, a sentence and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from engram_bench.door import printable
from engram_bench.records import Estimate, Trial
from engram_bench.reporting.markdown import escaped
from engram_bench.reporting.plots import WIDTH, svg, tag, text
from engram_bench.reporting.tables import ReportTable
from engram_bench.scoring.figures import figure, number
from engram_bench.scoring.metrics import METRICS
from engram_bench.scoring.objective import Objective, best, rivals

SHOWN = ("accuracy", "generalization", "retention")
"""Metrics that the table shows beside those of the objective, where they were measured."""


def search_table(trials: Sequence[Trial], objective: Objective) -> ReportTable:
    """A row per trial, the best first, then by value; those that miss a gate, were pruned or failed last."""
    winner = best(trials, objective)
    fields = list(dict.fromkeys(field for trial in trials for field in trial.changes))
    metrics = _metrics(trials, objective)
    sign = -1 if objective.direction == "max" else 1

    def order(trial: Trial) -> tuple[bool, bool, float, int]:
        value = trial.value.value if trial.value else 0.0
        return trial.value is None, not trial.holds, sign * value, trial.number

    rows = tuple(
        (
            str(trial.number),
            *(_written(trial.changes[field]) if field in trial.changes else "" for field in fields),
            *(_cell(trial.measures.get(metric), metric, whole=metric == objective.metric) for metric in metrics),
            str(trial.steps or ""),
            f"{trial.seconds:.0f}",
            "best" if trial is winner else remark(trial, objective),
        )
        for trial in sorted(trials, key=order)
    )
    names = (printable(name).replace("_", "\n") for name in (*fields, *metrics))  # a journal may have been edited
    headers = ("trial", *names, "steps", "s", "")
    title = f"sweep: {objective.text} (rates in %, with 95 % interval)"
    return ReportTable(title, headers, f"r{'l' * len(fields)}{'r' * (len(metrics) + 2)}l", rows)


def search_sentence(trials: Sequence[Trial], objective: Objective) -> str:
    """The winner, and how many others the sweep does not tell apart from it."""
    winner = best(trials, objective)
    if winner is None or winner.value is None:
        missed = sum(trial.state == "done" for trial in trials)
        return f"no recipe passes every gate of the objective ({missed} of {len(trials)} trials were measured)"
    others = len(rivals(trials, winner))
    beside = (
        f"; {others} other trial{'s' * (others > 1)} lie{'s' * (others == 1)} inside its interval and may be as good"
        if others
        else ""
    )
    found = f"{objective.metric} {figure(winner.value.value, objective.unit)} (n {winner.value.n})"
    return f"best: trial {winner.number}, {changes_words(winner.changes)}: {found}{beside}"


def trial_line(trial: Trial, objective: Objective) -> str:
    """One line on a trial that has ended: what was tried, what came of it, what it took."""
    value = f"{objective.metric} {figure(trial.value.value, objective.unit)}" if trial.value else ""
    parts = [changes_words(trial.changes), value, remark(trial, objective), f"{trial.seconds:.0f} s"]
    return ", ".join(filter(None, parts))


def changes_words(changes: Mapping[str, Any]) -> str:
    """The changes of a trial as ``--set`` takes them: ``rank=16 learning_rate=0.001``."""
    return " ".join(f"{field}={_written(value)}" for field, value in changes.items())


def remark(trial: Trial, objective: Objective) -> str:
    """Why a trial cannot win: the gates it misses, pruned, or failed; empty where it can."""
    if trial.state != "done":
        return f"failed: {trial.reason}" if trial.state == "failed" else "pruned"
    missed = [gate for gate, excess in zip(objective.gates, trial.excesses, strict=True) if excess > 0]
    return f"misses {' and '.join(map(str, missed))}" if missed else ""


def search_plot(trials: Sequence[Trial], objective: Objective) -> str:
    """The objective's value of every trial with its interval, in order, as SVG; empty for fewer than two values."""
    drawn = [(trial, trial.value) for trial in trials if trial.value is not None and trial.state == "done"]
    if len(drawn) < 2:
        return ""
    height, left, right, upper, lower = 280, 76, 24, 18, 238
    bounds = [bound for _, value in drawn for bound in (value.interval or (value.value, value.value))]
    low, high = min(bounds), max(bounds)
    last = max(trial.number for trial, _ in drawn)

    def x(trial: Trial) -> float:
        return left + (WIDTH - left - right) * (trial.number - 0.5) / last

    def y(value: float) -> float:
        return lower - (lower - upper) * (value - low) / ((high - low) or 1)

    parts: list[str] = []
    for bound in (low, high):
        parts.append(tag("line", x1=left, x2=WIDTH - right, y1=y(bound), y2=y(bound), class_="grid"))
        parts.append(text(figure(bound, objective.unit), left - 10, y(bound) + 4, "end muted"))
    winner = best(trials, objective)
    for trial, value in drawn:
        start, end = value.interval or (value.value, value.value)
        kind = "candidate" if trial.holds else "baseline"
        parts += [
            tag("line", x1=x(trial), x2=x(trial), y1=y(start), y2=y(end), class_="link"),
            tag("circle", cx=x(trial), cy=y(value.value), r=6.5 if trial is winner else 4, class_=kind),
            text(str(trial.number), x(trial), lower + 20, "middle muted"),
        ]
    parts.append(
        text("trial; filled where every gate holds, the best one large", WIDTH - right, lower + 38, "end muted")
    )
    description = f"{objective.metric} of {len(drawn)} recipes in the order of their trials, with 95 % intervals."
    return svg(f"Sweep: {objective.text}", description, height, parts)


def search_markdown(trials: Sequence[Trial], objective: Objective, origin: str) -> str:
    """The table, the sentence and where the figures come from, as Markdown."""
    table = search_table(trials, objective).markdown(escaped)
    return f"# Sweep\n\n{escaped(search_sentence(trials, objective))}\n\n{table}\n\n{escaped(origin)}\n"


def _metrics(trials: Sequence[Trial], objective: Objective) -> list[str]:
    wanted = dict.fromkeys([objective.metric, *(gate.metric for gate in objective.gates), *SHOWN])
    return [metric for metric in wanted if any(metric in trial.measures for trial in trials)]


def _cell(estimate: Estimate | None, metric: str, *, whole: bool) -> str:
    """A value, with its interval where the cell is to be *whole*."""
    if estimate is None:
        return ""
    unit = METRICS[metric].unit if metric in METRICS else ""
    if estimate.interval is None or not whole:
        return number(estimate.value, unit)
    low, high = (number(bound, unit) for bound in estimate.interval)
    return f"{number(estimate.value, unit)} ({low}–{high})"


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
