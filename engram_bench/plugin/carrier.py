"""How results travel: on the last report of their item, which xdist sends to the controller."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from engram_bench.plugin.gathered import TRAVEL
from engram_bench.plugin.handle import candidate_of
from engram_bench.plugin.parts import part
from engram_bench.records import CaseResult, GuardResult, SpeedRounds
from engram_bench.records.plain import to_plain

ROWS: pytest.StashKey[list[CaseResult]] = pytest.StashKey()
"""Scored answers of an item."""
GUARDS: pytest.StashKey[list[GuardResult]] = pytest.StashKey()
"""Result of an item's guard."""
SPEED: pytest.StashKey[list[SpeedRounds]] = pytest.StashKey()
"""Timed rounds of an item."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put an item's results and this process's notes on the teardown report."""
    report = yield
    rows, speed, guards = item.stash.get(ROWS, []), item.stash.get(SPEED, []), item.stash.get(GUARDS, [])
    if call.when == "call" and rows:
        part("extras")(item.config, report, rows)
    if call.when == "teardown" and (rows or speed or guards):
        travelling = {"rows": to_plain(rows), "speed": to_plain(speed), "guards": to_plain(guards)}
        about = candidate_of(item)
        setattr(report, TRAVEL, travelling | {"candidate": about.name, "notes": about.notes()})
    return report
