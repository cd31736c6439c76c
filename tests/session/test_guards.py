"""Sanity guards by name."""

from __future__ import annotations

from engram_bench.scoring.guards import GUARDS, OPT_IN
from engram_bench.session.guards import CHECKS


def test_every_guard_has_a_check_and_a_meaning() -> None:
    assert list(CHECKS) == list(GUARDS)
    assert set(OPT_IN) <= set(GUARDS)
