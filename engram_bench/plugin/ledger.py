"""Rows of all processes → comparison, reports and exit status; one per session, never in an xdist worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from engram_bench.errors import EngramBenchError
from engram_bench.options import Settings
from engram_bench.plugin.judged import ROWS
from engram_bench.provenance import command_line, utc_now

if TYPE_CHECKING:
    from engram_bench.pipeline import Conclusion
    from engram_bench.records import Run

TRAVEL = "engram_bench"
"""Attribute of a report that carries rows and notes; xdist sends it along with the report."""


class RowCarrier:
    """Puts an item's rows, and this process's notes, on its last report."""

    def __init__(self, notes: Callable[[], dict[str, Any]]) -> None:
        self._notes = notes

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach what the ledger needs to the teardown report."""
        report = yield
        rows = item.stash.get(ROWS, None)
        if call.when == "teardown" and rows is not None:
            from engram_bench.record_format import to_plain

            setattr(report, TRAVEL, {"rows": to_plain(tuple(rows)), "notes": self._notes()})
        return report


class SessionLedger:
    """Gathers rows and concludes."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._rows: list[Any] = []
        self._notes: dict[str, Any] = {}
        self._missing: list[str] = []
        self._conclusion: Conclusion | None = None
        self._problem = ""
        self._started = utc_now()
        self._clock = time.perf_counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the rows of an item, or note that a case got none."""
        travelled = getattr(report, TRAVEL, None)
        if travelled is not None:
            self._rows += travelled["rows"]
            self._take_notes(travelled["notes"])
        elif report.when == "setup" and report.failed:
            self._missing += [str(value) for key, value in report.user_properties if key == "engram_case"]

    def _take_notes(self, notes: dict[str, Any]) -> None:
        """Keep the notes of the process that did the most: the others found its work in the stores."""
        if notes and (not self._notes or _work_s(notes) > _work_s(self._notes)):
            self._notes = notes

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Save the run, then judge it: a failed gate turns a green session red, and never the other way round."""
        if not self._rows or not self._notes:
            return
        try:
            passes = self._conclude()
        except EngramBenchError as error:
            self._problem, passes = f"{type(error).__name__}: {error}", False
        if not passes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _conclude(self) -> bool:
        """Whether every gate is met and every case was scored; the reports are written before."""
        from engram_bench.gate import session_passes
        from engram_bench.pipeline import conclude, save

        self._conclusion = conclude(self._run(), self._settings)
        self._conclusion = save(self._conclusion, self._settings.report_dir)
        return session_passes(self._conclusion.verdicts) and not self._conclusion.comparison.unscored

    def _run(self) -> Run:
        from engram_bench.record_format import from_plain
        from engram_bench.records import CaseResult, Run

        run = from_plain(Run, self._notes)
        return replace(
            run,
            provenance=replace(run.provenance, command=command_line(), started=self._started),
            results=tuple(from_plain(CaseResult, row) for row in self._rows),
            timing=replace(run.timing, total_s=time.perf_counter() - self._clock),
            missing=tuple(sorted(set(self._missing))),
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the comparison."""
        if self._conclusion is not None:
            from engram_bench.reporting.terminal import comparison_lines

            writer = self._config.get_terminal_writer()
            terminalreporter.section("engram-bench")
            for line in comparison_lines(
                self._conclusion.run,
                self._conclusion.comparison,
                self._conclusion.verdicts,
                width=writer.fullwidth,
                encoding=getattr(writer._file, "encoding", None) or "utf-8",
                report=str(self._settings.report_dir / "latest.md"),
            ):
                terminalreporter.write_line(line)
        if self._problem:
            terminalreporter.section("engram-bench", red=True)
            terminalreporter.write_line(self._problem, red=True)


def _work_s(notes: dict[str, Any]) -> float:
    return float(sum(notes["timing"].values()))
