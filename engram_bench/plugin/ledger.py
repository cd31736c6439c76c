"""Results of all processes, gathered in the one that reports: never in an xdist worker."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from engram_bench.door import printable
from engram_bench.errors import EngramBenchError
from engram_bench.plugin.gathered import TRAVEL, Gathered
from engram_bench.plugin.items import CANDIDATE
from engram_bench.plugin.outlet import error_line, section, workflow
from engram_bench.plugin.parts import part
from engram_bench.plugin.refusal import PROBLEM, is_of_suite
from engram_bench.session.settings import Settings

if TYPE_CHECKING:
    from engram_bench.plugin.summary import Summary, SummaryOfMany


class SessionLedger:
    """Gathers the results of every candidate, judges the session by them, and prints the summary."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._gathered = {name: Gathered() for name in settings.chosen}
        self._summary: Summary | SummaryOfMany | None = None
        self._problem = ""
        self._refusal = ""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give xdist's workers one folder that ends with the session: with ``--engram-no-cache`` one asks for all."""
        node.workerinput["engram_folder"] = str(self._shared)

    @cached_property
    def _shared(self) -> Path:
        folder = TemporaryDirectory(prefix="engram-bench-")
        self._config.add_cleanup(folder.cleanup)
        return Path(folder.name)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the reason why a worker refuses the session; all workers have the same one."""
        self._refusal = self._refusal or getattr(node, "workeroutput", {}).get(PROBLEM, "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the results that a report carries, or note that a case has none."""
        travelled = getattr(report, TRAVEL, None)
        if travelled is not None:
            self._gathered[travelled["candidate"]].take(travelled)
        elif report.failed and report.when != "call":
            known = [str(value) for key, value in report.user_properties if key == "engram_case"]
            name = next((str(value) for key, value in report.user_properties if key == CANDIDATE), "")
            about = self._gathered.get(name) or next(iter(self._gathered.values()))
            about.missing += known or [printable(report.nodeid)] * is_of_suite(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Save the run, then judge it: a failed gate turns a green session red, and never the other way round."""
        if self._refusal:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if not any(each.is_a_run for each in self._gathered.values()):
            if session.exitstatus == pytest.ExitCode.OK and (gates := self._asked_gates()):
                self._problem = (
                    f"gates: nothing was measured in this session, so they were not judged: {', '.join(gates)}"
                )
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        try:
            self._summary = part("summary")(self._config, self._settings, self._gathered)
            self._problem = self._summary.problem
            passes = self._summary.passes
        except EngramBenchError as error:
            self._problem, passes = f"{type(error).__name__}: {error}", False
        if not passes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _asked_gates(self) -> tuple[str, ...]:
        """The gates, where this very command line names one; those of the configuration stand for every session."""
        flag = "--engram-gate"
        arguments = map(str, self._config.invocation_params.args)
        is_asked = any(argument == flag or argument.startswith(f"{flag}=") for argument in arguments)
        return self._settings.gate if is_asked and not self._config.option.collectonly else ()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the comparison, and what changed since an earlier run; or why the session was refused."""
        if self._refusal:
            error_line(terminalreporter, self._refusal)
        if self._summary is not None:
            section(terminalreporter, self._summary.lines())
            workflow(terminalreporter, self._summary.annotations())
        if self._problem:
            section(terminalreporter, [(self._problem, "red")], red=True)
