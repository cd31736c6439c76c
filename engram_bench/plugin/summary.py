"""The end of a session: gathered results → runs, reports, exit status and the lines on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engram_bench.door import printable
from engram_bench.errors import EngramBenchError, UsageError
from engram_bench.plugin import ci
from engram_bench.plugin.gathered import Gathered
from engram_bench.records import CaseResult, GuardResult, Run, SpeedRounds
from engram_bench.records.plain import from_plain
from engram_bench.reporting.candidate_terminal import candidate_lines
from engram_bench.reporting.changes import change_lines
from engram_bench.reporting.github import gate_commands
from engram_bench.reporting.terminal import comparison_lines, line_colour
from engram_bench.runs.store import LATEST, find_run, list_runs, load_run
from engram_bench.scoring.comparison import compare_runs
from engram_bench.session.bench import finished
from engram_bench.session.conclusion import Conclusion, conclude, pages_of, save, save_each
from engram_bench.session.settings import Settings
from engram_bench.session.together import Together, conclude_together, save_together
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
    pages: Path | None = None
    """Folder of the reports where it is not the session's."""

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
        width, encoding = _terminal(self.config)
        conclusion, report_dir = self.conclusion, self.settings.report_dir
        yield from comparison_lines(
            conclusion.run,
            conclusion.comparison,
            conclusion.verdicts,
            width=width,
            encoding=encoding,
            report=str((self.pages or report_dir) / "latest.html"),
            show=self.settings.show,
        )
        if self.older is not None:
            yield from ("", f"since run {self.older.name}:")
            changed = compare_runs(self.older, conclusion.run)
            yield from change_lines(self.older, conclusion.run, changed, width=width, encoding=encoding)
        elif self.settings.compare and self.earlier is None:
            yield from ("", f"no earlier run to compare with in {report_dir / 'runs'}")


@dataclass(frozen=True)
class SummaryOfMany:
    """A summary for each candidate of a session, and one of all together."""

    config: pytest.Config
    settings: Settings
    summaries: Mapping[str, Summary]
    """Summary by the candidate's name, in the user's order."""
    together: Together
    without: Sequence[str]
    """Names of the candidates whose tests all failed before there was an answer."""
    problem: str = ""
    """One sentence on what could not be written or read; empty if all went well."""

    @property
    def passes(self) -> bool:
        """Whether every candidate has results and passes."""
        return (
            not self.problem
            and not self.without
            and self.together.passes
            and all(each.passes for each in self.summaries.values())
        )

    def lines(self) -> Iterator[tuple[str, str]]:
        """The lines of each candidate's summary under its name, each with its colour or an empty text."""
        for name, summary in self.summaries.items():
            yield f"candidate {name}", ""
            yield from summary.lines()
            yield "", ""
        for name in self.without:
            yield f"candidate {name}: no results, because each of its tests failed before there was an answer", "red"
        width, encoding = _terminal(self.config)
        page = str(self.settings.report_dir / "latest.html")
        yield "candidates", ""
        for line in candidate_lines(
            self.together.found, self.together.verdicts, width=width, encoding=encoding, page=page
        ):
            yield line, line_colour(line)
        yield f"report: {printable(page)}", ""

    def annotations(self) -> list[str]:
        """Workflow commands for GitHub Actions; none elsewhere."""
        own = [command for each in self.summaries.values() for command in each.annotations()]
        return [*own, *(gate_commands(self.together.verdicts) if ci.is_on_github() else ())]


def summarise(config: pytest.Config, settings: Settings, gathered: Mapping[str, Gathered]) -> Summary | SummaryOfMany:
    """The summary of gathered results, after their runs and reports were saved.

    Args:
        config: pytest's configuration.
        settings: Settings of the session.
        gathered: What came with the reports, by the candidate's name; at least one has results.

    Raises:
        EngramBenchError: The earlier run cannot be found, or the results cannot be judged.
    """
    if len(settings.chosen) > 1:
        return _summarise_many(config, settings, gathered)
    (results,) = gathered.values()
    earlier = _earlier_run(settings, settings.candidate) or _earlier_run(settings)
    conclusion = conclude(_run(results), settings)
    try:
        conclusion = save(conclusion, settings.report_dir)
        problem = ci.publish(config, conclusion)
        older = load_run(earlier) if earlier else None
    except EngramBenchError as error:
        problem = f"{type(error).__name__}: {error}"
        return Summary(config, settings, conclusion, earlier, problem=problem, is_whole=False)
    return Summary(config, settings, conclusion, earlier, older, problem)


def runs_of(gathered: Mapping[str, Gathered]) -> dict[str, Run]:
    """The run of each candidate that has results, by the candidate's name in the user's order."""
    return {name: _run(each) for name, each in gathered.items() if each.is_a_run}


def _summarise_many(config: pytest.Config, settings: Settings, gathered: Mapping[str, Gathered]) -> SummaryOfMany:
    chosen = settings.chosen
    earlier = {name: _earlier_run(settings, name) for name in chosen}
    runs = runs_of(gathered)
    conclusions = {name: conclude(run, chosen[name], names=settings.names) for name, run in runs.items()}
    together = None
    without = [name for name, each in gathered.items() if each.missing and not each.is_a_run]
    older: dict[str, Run] = {}
    problem = ""
    try:
        conclusions = save_each(conclusions, settings.report_dir)
        together = _together(conclusions, settings)
        save_together(together, settings.report_dir)
        problem = "\n".join(filter(None, (ci.publish(config, each, name) for name, each in conclusions.items())))
        older = {name: load_run(path) for name, path in earlier.items() if path}
    except EngramBenchError as error:
        problem = f"{type(error).__name__}: {error}"
    summaries = {
        name: Summary(
            config, chosen[name], each, earlier[name], older.get(name), pages=pages_of(name, settings.report_dir)
        )
        for name, each in conclusions.items()
    }
    together = together or _together(conclusions, settings)
    return SummaryOfMany(config, settings, summaries, together, without, problem)


def _together(conclusions: Mapping[str, Conclusion], settings: Settings) -> Together:
    return conclude_together({name: each.run for name, each in conclusions.items()}, settings.chosen)


def _terminal(config: pytest.Config) -> tuple[int, str]:
    """Columns and encoding of pytest's terminal."""
    writer = config.get_terminal_writer()
    return writer.fullwidth, getattr(writer._file, "encoding", None) or "utf-8"


def _earlier_run(settings: Settings, name: str = "") -> Path | None:
    """The file of the run that ``--engram-compare`` names; None without the option, or if nothing was saved before.

    Of a named candidate, the run in the same session; None where that session did not test the candidate.
    """
    reference, report_dir = settings.compare, settings.report_dir
    if not reference or (reference == LATEST and not list_runs(report_dir)):
        return None
    if not name:
        return find_run(report_dir, reference)
    try:
        return find_run(report_dir, f"{reference}:{name}")
    except UsageError:
        return None


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
