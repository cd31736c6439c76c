"""The conclusion of a run: both sides compared, the gates judged, and the reports written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engram_bench.records import Comparison, Run, Verdict
from engram_bench.reporting.html import html_report
from engram_bench.reporting.json_report import json_text
from engram_bench.reporting.markdown import markdown_report
from engram_bench.reporting.plots import PLOTS, plots, standalone
from engram_bench.reporting.sweep_report import sweep_plot
from engram_bench.runs import store as run_store
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import judge, own_gates, session_gates, session_passes
from engram_bench.session.settings import Settings
from engram_bench.system.files import write_atomic


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A run with its comparison and the verdicts of its gates."""

    run: Run
    comparison: Comparison
    verdicts: tuple[Verdict, ...]

    @property
    def passes(self) -> bool:
        """Whether every gate is met, every case was scored, and no guard is broken."""
        has_broken = any(guard.outcome == "broken" for guard in self.run.guards)
        return session_passes(self.verdicts) and not self.comparison.unscored and not has_broken


def conclude(run: Run, settings: Settings, *, names: Collection[str] = ()) -> Conclusion:
    """The conclusion of a run under the user's gates, or the default ones.

    Args:
        run: Run of a candidate.
        settings: Settings with the gates.
        names: Names of the candidates that are compared with each other, this one among them. Gates that name candidates are
            judged by ``together`` then, and with several seeds all gates are.

    Raises:
        UsageError: A gate names a candidate that is not among *names*.
    """
    comparison = compare(run)
    gates = session_gates(settings.gate, candidates=names)
    if names:
        gates = () if settings.seeds > 1 else own_gates(settings.gate)
    return Conclusion(run, comparison, judge(gates, comparison))


def save(conclusion: Conclusion, report_dir: Path) -> Conclusion:
    """Write the run and the latest reports, and give the conclusion with the run's final name.

    Raises:
        StoreError: The folder cannot be written; earlier reports stay as they were.
    """
    named = replace(conclusion, run=run_store.save_run(conclusion.run, report_dir))
    write_reports(named, report_dir)
    return named


def save_each(conclusions: Mapping[str, Conclusion], report_dir: Path) -> dict[str, Conclusion]:
    """Write a run for each candidate of a session, and its latest reports into :func:`pages_of` the candidate.

    Args:
        conclusions: Conclusions by the candidate's name, in the user's order.
        report_dir: Folder of the reports.

    Returns:
        The conclusions with the final names of their runs.

    Raises:
        StoreError: The folder cannot be written; earlier reports stay as they were.
    """
    runs = run_store.save_runs([each.run for each in conclusions.values()], report_dir)
    named = {name: replace(each, run=run) for (name, each), run in zip(conclusions.items(), runs, strict=True)}
    for name, each in named.items():
        write_reports(each, pages_of(name, report_dir))
    return named


def pages_of(name: str, report_dir: Path) -> Path:
    """The folder of one candidate's reports."""
    return report_dir / "candidates" / name


def write_reports(conclusion: Conclusion, folder: Path) -> None:
    """Write the latest reports and plots on a run.

    Raises:
        StoreError: The folder cannot be written; earlier reports stay as they were.
    """
    reports = {"latest.json": json_text, "latest.md": markdown_report, "latest.html": html_report}
    for name, report in reports.items():
        write_atomic(folder / name, report(conclusion.run, conclusion.comparison, conclusion.verdicts))
    drawn = plots(conclusion.comparison, conclusion.run.training)
    if curve := sweep_plot(conclusion.run.sweep):
        drawn["sweep"] = curve
    for name in (*PLOTS, "sweep"):
        path = folder / "plots" / f"{name}.svg"
        if name in drawn:
            write_atomic(path, standalone(drawn[name]))
        else:
            path.unlink(missing_ok=True)  # a plot of an earlier run, which would be taken for this run's
