"""Rows of all processes → comparison, reports and exit status; one per session, never in an xdist worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from engram_bench.errors import EngramBenchError
from engram_bench.plugin import ci
from engram_bench.plugin.timed import SPEED
from engram_bench.session.options import Settings

if TYPE_CHECKING:
    from engram_bench.records import CaseResult, GuardResult, Run
    from engram_bench.session.conclusion import Conclusion

ROWS: pytest.StashKey[list[CaseResult]] = pytest.StashKey()
"""On an item: the rows that travel to the ledger with its report."""
GUARDS: pytest.StashKey[list[GuardResult]] = pytest.StashKey()
"""On an item: what its guard says, which travels too."""
TRAVEL = "engram_bench"
"""Attribute of a report that carries rows and notes; xdist sends it along with the report."""


class RowCarrier:
    """Puts an item's rows or timed rounds, and this process's notes, on its last report."""

    def __init__(self, notes: Callable[[], dict[str, Any]]) -> None:
        self._notes = notes

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach what the ledger needs to the teardown report."""
        report = yield
        rows, speed, guards = item.stash.get(ROWS, []), item.stash.get(SPEED, []), item.stash.get(GUARDS, [])
        if call.when == "call" and rows:
            ci.add_extras(item.config, report, rows)
        if call.when == "teardown" and (rows or speed or guards):
            from engram_bench.records.plain import to_plain

            travelling = {"rows": to_plain(rows), "speed": to_plain(speed), "guards": to_plain(guards)}
            setattr(report, TRAVEL, travelling | {"notes": self._notes()})
        return report


class SessionLedger:
    """Gathers rows and concludes."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._rows: list[Any] = []
        self._speed: list[Any] = []
        self._guards: list[Any] = []
        self._notes: dict[str, Any] = {}
        self._missing: list[str] = []
        self._conclusion: Conclusion | None = None
        self._earlier: Path | None = None
        self._older: Run | None = None
        self._problem = ""
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give xdist's workers one folder for what ends with the session: with ``--engram-no-cache`` one asks for all."""
        node.workerinput["engram_folder"] = self._shared.name

    def pytest_unconfigure(self) -> None:
        """Remove that folder."""
        if "_shared" in self.__dict__:
            self._shared.cleanup()

    @cached_property
    def _shared(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="engram-bench-")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the rows and rounds of an item, or note that a case got none."""
        travelled = getattr(report, TRAVEL, None)
        if travelled is not None:
            self._rows += travelled["rows"]
            self._speed += travelled["speed"]
            self._guards += travelled["guards"]
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
        if not (self._rows or self._speed) or not self._notes:
            return
        try:
            passes = self._conclude()
        except EngramBenchError as error:
            self._problem, passes = f"{type(error).__name__}: {error}", False
        if not passes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _conclude(self) -> bool:
        """Whether every gate is met and every case was scored; the reports are written before."""
        from engram_bench.runs.store import load_run
        from engram_bench.session.conclusion import conclude, save

        self._earlier = self._earlier_run()
        self._conclusion = conclude(self._run(), self._settings)
        self._conclusion = save(self._conclusion, self._settings.report_dir)
        self._problem = ci.publish(self._config, self._conclusion)
        self._older = load_run(self._earlier) if self._earlier else None
        return self._conclusion.passes

    def _earlier_run(self) -> Path | None:
        """The file of the run that ``--engram-compare`` names; None without the option, or if nothing was saved before."""
        from engram_bench.runs.store import find_run, list_runs

        reference, report_dir = self._settings.compare, self._settings.report_dir
        if not reference or (reference == "latest" and not list_runs(report_dir)):
            return None
        return find_run(report_dir, reference)

    def _run(self) -> Run:
        from engram_bench.records import CaseResult, GuardResult, Run, SpeedRounds
        from engram_bench.records.plain import from_plain
        from engram_bench.session.bench import finished
        from engram_bench.system.provenance import in_utc

        noted = replace(
            from_plain(Run, self._notes),
            speed=tuple(from_plain(SpeedRounds, rounds) for rounds in self._speed),
            guards=tuple(from_plain(GuardResult, guard) for guard in self._guards),
        )
        return finished(
            noted,
            (from_plain(CaseResult, row) for row in self._rows),
            started=in_utc(self._started),
            total_s=time.perf_counter() - self._clock,
            missing=self._missing,
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the comparison, and what changed since an earlier run."""
        if self._conclusion is not None:
            from engram_bench.reporting.terminal import line_colour

            terminalreporter.section("engram-bench")
            for line in self._lines(self._conclusion):
                colour = line_colour(line)
                terminalreporter.write_line(line, **({colour: True} if colour else {}))
            for line in ci.annotation_lines(self._config, self._conclusion):
                terminalreporter.write_line(line)
        if self._problem:
            terminalreporter.section("engram-bench", red=True)
            terminalreporter.write_line(self._problem, red=True)

    def _lines(self, conclusion: Conclusion) -> Iterator[str]:
        from engram_bench.reporting.terminal import comparison_lines

        writer = self._config.get_terminal_writer()
        width, encoding = writer.fullwidth, getattr(writer._file, "encoding", None) or "utf-8"
        yield from comparison_lines(
            conclusion.run,
            conclusion.comparison,
            conclusion.verdicts,
            width=width,
            encoding=encoding,
            report=str(self._settings.report_dir / "latest.html"),
            show=self._settings.show,
        )
        if self._settings.compare and self._earlier is None:
            yield from ("", f"no earlier run to compare with in {self._settings.report_dir / 'runs'}")
        elif self._older is not None:
            from engram_bench.reporting.changes import change_lines
            from engram_bench.scoring.comparison import compare_runs

            yield from ("", f"since run {self._older.name}:")
            changed = compare_runs(self._older, conclusion.run)
            yield from change_lines(self._older, conclusion.run, changed, width=width, encoding=encoding)


def _work_s(notes: dict[str, Any]) -> float:
    return float(sum(notes["timing"].values()))
