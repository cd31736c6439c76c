"""Work that memory may not hold: tried once more in half the size where it has one, then an error with the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from engram_bench.errors import BackendError

T = TypeVar("T")

_SIGNS = (
    "can't allocate memory",  # torch on a Unix CPU
    "not enough memory",  # torch on Windows
    "out of memory",  # torch and mlx on a GPU
    "Insufficient Memory",  # mlx on Metal
    "Unable to allocate",  # mlx on a CPU
    "[malloc",
    "bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, numpy, torch or mlx raised *error* because memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def halving(work: Callable[[int], T], size: int, *, doing: str) -> tuple[T, int]:
    """What *work* makes of *size* tokens at a time, or of half as many once memory ran out; and the size that did.

    Raises:
        BackendError: Memory ran out twice while *doing* it.
    """
    try:
        return work(size), size
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Behind the except clause: inside it the error would keep the frames of what failed, and so its memory.
    half = max(1, size // 2)
    try:
        return work(half), half
    except (RuntimeError, MemoryError) as again:
        if not is_out_of_memory(again):
            raise
        tried = f"with {size} tokens at once and with {half}"
        msg = f"{doing}: memory ran out {tried}, expected either to fit ({_cause(again)})"
        raise BackendError(msg) from again


@contextmanager
def in_memory(doing: str) -> Iterator[None]:
    """What cannot be halved: memory that runs out in here is an error that says *doing* what.

    Raises:
        BackendError: It did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        msg = f"{doing}: memory ran out, expected it to fit ({_cause(error)})"
        raise BackendError(msg) from error


def _cause(error: BaseException) -> str:
    """The first line of what a library says, which has its figures."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
