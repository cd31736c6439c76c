"""What the selected tests ask, and the end of a session before its first test where an error is sure to come."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from engram_bench.door import inert
from engram_bench.plugin.outlet import usage_error

SIDE_FIXTURES = frozenset({"baseline", "candidate", "adapter"})
"""Fixtures for tests of users that ask a model or hand out its adapter."""
SUFFIXES = (".yaml", ".yml", ".jsonl")
"""Endings of pattern files, known without an import of what reads them."""
OURS = "engram_bench.plugin.fixtures"
"""Module that defines these fixtures."""
PROBLEM = "engram_problem"
"""Key under which an xdist worker tells the controller why the session is refused."""


def takes_a_side(items: Iterable[pytest.Item]) -> bool:
    """Whether a test may be one of a user that asks a model; cheap, for sessions that have nothing to do with this package."""
    return any(not SIDE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) for item in items)


def asked_by_users(items: Iterable[pytest.Item]) -> set[str]:
    """The fixtures of this plugin by which tests of users ask a model.

    A fixture of the same name from elsewhere is left out, and so is a test that is skipped.
    """
    found: set[str] = set()
    for item in items:
        definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
        for name in SIDE_FIXTURES & definitions.keys():
            if definitions[name][-1].func.__module__ == OURS and item.get_closest_marker("skip") is None:
                found.add(name)
    return found


def has_suite(items: Iterable[pytest.Item]) -> bool:
    """Whether a test of the suite is among the items."""
    suite = {"engram_task", "engram_speed_case"}
    return any(not suite.isdisjoint(getattr(item, "fixturenames", ())) for item in items)


def is_of_suite(nodeid: str) -> bool:
    """Whether a test with this id comes from a pattern file."""
    return nodeid.partition("::")[0].endswith(SUFFIXES)


def refuse(session: pytest.Session, error: Exception) -> None:
    """End the session before its first test with one usage error; in an xdist worker, leave saying so to the controller."""
    output = getattr(session.config, "workeroutput", None)
    if output is None:
        raise usage_error(error) from error
    output[PROBLEM] = inert(str(error))
    session.items.clear()
