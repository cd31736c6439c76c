"""The speed suite where pytest-benchmark is not installed: every test skips and names the command to install it."""

from __future__ import annotations

import pytest

from engram_bench.plugin.outlet import skip
from engram_bench.plugin.speed_suite import *  # noqa: F403


@pytest.fixture
def timed(engram_speed_case: object, engram_candidate: str) -> None:
    """Skip before a model is loaded."""
    skip("needs pytest-benchmark: pip install 'engram-bench[speed]'")


@pytest.fixture
def benchmark() -> None:
    """Stand in for pytest-benchmark's fixture."""
