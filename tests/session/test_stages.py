"""Seconds by stage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engram_bench.session.stages import StageClock


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves one second each time it is looked at."""
    seconds: Iterator[float] = iter(map(float, range(100)))
    monkeypatch.setattr("engram_bench.session.stages.time.perf_counter", lambda: next(seconds))


@pytest.mark.usefixtures("ticks")
def test_stage_inside_a_stage_counts_once() -> None:
    clock = StageClock()

    with clock.measure("candidate"), clock.measure("train"):
        pass

    assert clock.seconds == {"train": 1.0, "candidate": 2.0}


@pytest.mark.usefixtures("ticks")
def test_stage_that_returns_adds_up_even_after_an_error() -> None:
    clock = StageClock()

    with pytest.raises(ZeroDivisionError), clock.measure("baseline"):
        _ = 1 / 0
    with clock.measure("baseline"):
        pass

    assert clock.seconds == {"baseline": 2.0}
