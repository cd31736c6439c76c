"""The speed suite where pytest-benchmark is not installed: its tests are there, and skip with the command that brings it."""

from __future__ import annotations

import pytest

from engram_bench.plugin.speed_suite import *  # noqa: F403


@pytest.fixture
def timed(engram_speed_case: object) -> None:
    """Never given, so that no model is loaded for nothing."""
    pytest.skip("needs pytest-benchmark: pip install 'engram-bench[speed]'")


@pytest.fixture
def benchmark() -> None:
    """Never asked for."""
