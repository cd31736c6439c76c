from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from engram_bench.errors import BackendError
from engram_bench.speed import conditions
from engram_bench.speed.conditions import Conditions, clock_mhz, peak_memory_mb, pin, reset_peak_memory

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores that can be pinned",
)


def with_torch(monkeypatch: pytest.MonkeyPatch, threads: int) -> SimpleNamespace:
    """A loaded torch that computes with that many threads."""
    torch = SimpleNamespace(threads=threads)
    torch.get_num_threads = lambda: torch.threads
    torch.set_num_threads = lambda number: setattr(torch, "threads", number)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Conditions(2, 1), "1 thread on 2 cores"),
        (Conditions(1, 4), "4 threads on 1 core"),
        (Conditions(8, None), "8 cores"),
    ],
    ids=["one-thread", "one-core", "no-torch"],
)
def test_conditions_read_as_words(found: Conditions, words: str) -> None:
    assert str(found) == words


def test_what_stays_the_same_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch, 2)

    pin().check()


def test_threads_changed_between_rounds_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = with_torch(monkeypatch, 2)
    pinned = pin()
    torch.threads = 1

    with pytest.raises(BackendError, match=r"1 thread on .* after a round, expected 2 threads on"):
        pinned.check()


@needs_affinity
def test_a_core_taken_between_rounds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch, 1)
    cores = os.sched_getaffinity(0)
    pinned = pin()
    os.sched_setaffinity(0, {min(cores)})
    try:
        with pytest.raises(BackendError, match=r"on 1 core after a round, expected .* on \d+ cores"):
            pinned.check()
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux resets a process's peak")
def test_peak_memory_counts_from_the_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "_device", lambda: None)
    reset_peak_memory()
    before = peak_memory_mb()
    assert before is not None

    held = bytearray(64_000_000)
    with_it = peak_memory_mb()
    del held
    reset_peak_memory()
    after = peak_memory_mb()

    assert with_it is not None
    assert after is not None
    assert with_it - before > 50
    assert with_it - after > 50


def test_an_accelerator_counts_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(max_memory_allocated=lambda: 2_500_000, reset_peak_memory_stats=lambda: None)
    monkeypatch.setattr(conditions, "_device", lambda: device)

    reset_peak_memory()

    assert peak_memory_mb() == 2.5


def test_a_system_that_does_not_tell_its_clock_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "_CPU", Path("/nowhere"))

    assert clock_mhz() is None
