"""The end of a session: gathered results → run, reports, exit status and the lines on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engram_bench.errors import EngramBenchError
from engram_bench.plugin import ci
from engram_bench.plugin.gathered import Gathered
from engram_bench.records import CaseResult, GuardResult, Run, SpeedRounds
from engram_bench.records.plain import from_plain
from engram_bench.reporting.changes import change_lines
from engram_bench.reporting.terminal import comparison_lines, line_colour
from engram_bench.runs.store import find_run, list_runs, load_run
from engram_bench.scoring.comparison import compare_runs
from engram_bench.session.bench import finished
from engram_bench.session.conclusion import Conclusion, conclude, save
from engram_bench.session.options import Settings
from engram_bench.system.provenance import in_utc


@dataclass(frozen=True)
class Summary:
    """A saved run with its conclusion."""

    config: pytest.Config
    settings: Settings
    conclusion: Conclusion
    earlier: Path | None
    """File of the run to compare with; None where none is wanted or found."""
    older: Run | None = None
    """The run in that file; None where the file cannot be read."""
    problem: str = ""
    """One sentence on what could not be written or read; empty if all went well."""
    is_whole: bool = True
    """Whether the reports were written and the earlier run was read."""

    @property
    def passes(self) -> bool:
        """Whether every gate is met, every case was scored, and the reports are whole."""
        return self.is_whole and self.conclusion.passes

    def lines(self) -> Iterator[tuple[str, str]]:
        """The lines of the summary, each with its colour or an empty text."""
        for line in self._comparison_lines():
            yield line, line_colour(line)

    def annotations(self) -> list[str]:
        """Workflow commands for GitHub Actions; none elsewhere."""
        return ci.annotation_lines(self.config, self.conclusion)

    def _comparison_lines(self) -> Iterator[str]:
        writer = self.config.get_terminal_writer()
        width, encoding = writer.fullwidth, getattr(writer._file, "encoding", None) or "utf-8"
        conclusion, report_dir = self.conclusion, self.settings.report_dir
        yield from comparison_lines(
            conclusion.run,
            conclusion.comparison,
            conclusion.verdicts,
            width=width,
            encoding=encoding,
            report=str(report_dir / "latest.html"),
            show=self.settings.show,
        )
        if self.older is not None:
            yield from ("", f"since run {self.older.name}:")
            changed = compare_runs(self.older, conclusion.run)
            yield from change_lines(self.older, conclusion.run, changed, width=width, encoding=encoding)
        elif self.settings.compare and self.earlier is None:
            yield from ("", f"no earlier run to compare with in {report_dir / 'runs'}")


def summarise(config: pytest.Config, settings: Settings, gathered: Gathered) -> Summary:
    """The summary of gathered results, after their run and its reports were saved.

    Raises:
        EngramBenchError: The earlier run cannot be found, or the results cannot be judged.
    """
    earlier = _earlier_run(settings)
    conclusion = conclude(_run(gathered), settings)
    try:
        conclusion = save(conclusion, settings.report_dir)
        problem = ci.publish(config, conclusion)
        older = load_run(earlier) if earlier else None
    except EngramBenchError as error:
        problem = f"{type(error).__name__}: {error}"
        return Summary(config, settings, conclusion, earlier, problem=problem, is_whole=False)
    return Summary(config, settings, conclusion, earlier, older, problem)


def _earlier_run(settings: Settings) -> Path | None:
    """The file of the run that ``--engram-compare`` names; None without the option, or if nothing was saved before."""
    reference, report_dir = settings.compare, settings.report_dir
    if not reference or (reference == "latest" and not list_runs(report_dir)):
        return None
    return find_run(report_dir, reference)


def _run(gathered: Gathered) -> Run:
    noted = replace(
        from_plain(Run, gathered.notes),
        speed=tuple(from_plain(SpeedRounds, rounds) for rounds in gathered.speed),
        guards=tuple(from_plain(GuardResult, guard) for guard in gathered.guards),
    )
    return finished(
        noted,
        (from_plain(CaseResult, row) for row in gathered.rows),
        started=in_utc(gathered.started),
        total_s=time.perf_counter() - gathered.started_s,
        missing=gathered.missing,
    )
