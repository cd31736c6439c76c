"""Work that memory does not hold is tried once in half the size; then it is an error with the figures."""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import pytest

from engram_bench.backends.common.halving import halving, in_memory, is_out_of_memory
from engram_bench.errors import BackendError


class Memory:
    """Work that fits in so many tokens at once."""

    def __init__(self, fits_in: int, text: str = "DefaultCPUAllocator: can't allocate memory") -> None:
        self.fits_in, self.text = fits_in, text
        self.tried: list[int] = []

    def work(self, size: int) -> str:
        self.tried.append(size)
        if size > self.fits_in:
            raise RuntimeError(self.text)
        return "done"


def test_work_that_fits_is_done_once() -> None:
    memory = Memory(fits_in=100)

    assert halving(memory.work, 100, doing="training") == ("done", 100)
    assert memory.tried == [100]


def test_work_that_does_not_fit_is_done_in_half_the_size() -> None:
    assert halving(Memory(fits_in=60).work, 100, doing="training") == ("done", 50)


def test_memory_that_runs_out_twice_is_an_error_with_the_figures() -> None:
    memory = Memory(fits_in=20, text="[malloc] Unable to allocate 123 bytes.\nstack of frames")

    with pytest.raises(
        BackendError,
        match=re.escape(
            "training 8 examples: memory ran out with 100 tokens at once and with 50, "
            "expected either to fit ([malloc] Unable to allocate 123 bytes.)"
        ),
    ):
        halving(memory.work, 100, doing="training 8 examples")
    assert memory.tried == [100, 50]


def test_other_failures_are_raised_as_they_are() -> None:
    memory = Memory(fits_in=0, text="shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        halving(memory.work, 100, doing="training")
    assert memory.tried == [100]


def test_what_failed_is_given_back_before_the_second_try() -> None:
    """An error that is being handled keeps its frames, and they the arrays for which there was no room."""
    kept: list[weakref.ref[Any]] = []

    class Array:
        pass

    def work(size: int) -> bool:
        if size == 100:
            array = Array()
            kept.append(weakref.ref(array))
            raise MemoryError
        gc.collect()
        return kept[0]() is None

    assert halving(work, 100, doing="training") == (True, 50)


def test_memory_for_what_cannot_be_halved_is_an_error_that_says_what_was_done() -> None:
    with (
        pytest.raises(BackendError, match=r"loading m: memory ran out, expected it to fit \(you tried to allocate 9"),
        in_memory("loading m"),
    ):
        raise MemoryError("you tried to allocate 9 bytes\nof 8")


def test_other_failures_of_what_cannot_be_halved_are_raised_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), in_memory("loading m"):
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=["python", "cuda", "metal", "c++", "other", "other-kind"],
)
def test_what_counts_as_memory_running_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
