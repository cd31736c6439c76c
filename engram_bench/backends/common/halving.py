"""Work that may run out of memory: tried once more at half the size, then an error with the figures."""

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
    """Whether *error* of Python, numpy, torch or mlx means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def halving(work: Callable[[int], T], size: int, *, doing: str) -> tuple[T, int]:
    """Result of *work* with *size* tokens at a time, or with half as many after memory ran out; and the size that worked.

    Args:
        work: Function of the number of tokens at a time.
        size: Number of tokens of the first try.
        doing: Name of the work in the error message.

    Raises:
        BackendError: Memory ran out twice.
    """
    try:
        return work(size), size
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # After the except clause: inside it, the error would keep the frames of the failed work and their memory.
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
    """Context in which memory that runs out is an error of this package that names *doing*. The work is not halved.

    Raises:
        BackendError: Memory ran out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        msg = f"{doing}: memory ran out, expected it to fit ({_cause(error)})"
        raise BackendError(msg) from error


def _cause(error: BaseException) -> str:
    """First line of a library's message, which holds the figures."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
