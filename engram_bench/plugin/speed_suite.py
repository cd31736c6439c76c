"""The test functions a pattern file of ``kind: speed`` gets, one item per side: ``test_decode_speed[fused]``.

They take pytest-benchmark's fixture, so ``--benchmark-only``, ``--benchmark-json`` and ``--benchmark-compare`` work.
"""

from __future__ import annotations

from typing import Any

import pytest

from engram_bench.plugin.timed import Timed


@pytest.mark.speed
def test_decode_speed(timed: Timed, benchmark: Any) -> None:
    """A fixed number of new tokens for one prompt, the end token ignored."""
    timed.run(benchmark)


@pytest.mark.speed
def test_batch_throughput(timed: Timed, benchmark: Any) -> None:
    """A fixed number of new tokens for each prompt of a batch."""
    timed.run(benchmark)


@pytest.mark.speed
def test_first_token(timed: Timed, benchmark: Any) -> None:
    """The time from the prompt to the first piece of text."""
    timed.run(benchmark)


@pytest.mark.speed
def test_time_to_answer(timed: Timed, benchmark: Any) -> None:
    """The time from the prompt to the end of the answer, wherever the model ends it."""
    timed.run(benchmark)


@pytest.mark.speed
def test_load_time(timed: Timed, benchmark: Any) -> None:
    """The time to load the model with its adapter from files."""
    timed.run(benchmark)
