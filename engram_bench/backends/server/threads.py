"""Work in threads that nothing waits for longer than allowed: neither a server that hangs nor Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

NAME = "engram-bench request"
"""Name of every thread."""
LOOK_S = 0.1
"""Seconds between two looks at what is overdue."""
GRACE_S = 0.5
"""Seconds for which work that is over its limit may still end by itself, and for which ended work is waited for."""


class Overdue(Exception):
    """A piece of work did not end within its limit; the name of a host that nobody resolves cannot be interrupted."""


def in_threads(work: Sequence[Callable[[], T]], *, workers: int, limit_s: float, stopped: threading.Event) -> list[T]:
    """What each piece of work gives, in order. The first failure is raised, and the rest is stopped.

    On a failure, on Ctrl-C and at the end, *stopped* is set. A thread that goes on after that ends with the process.

    Args:
        work: Pieces of work, which end soon after *stopped* is set.
        workers: Largest number of pieces at work at once.
        limit_s: Seconds after which a piece of work should have ended by itself.
        stopped: Switch that the pieces look at.

    Raises:
        Overdue: A piece was still at work after its limit.
    """
    waiting = deque(enumerate(work))
    done: SimpleQueue[tuple[int, T | None, BaseException | None]] = SimpleQueue()
    started: dict[int, float] = {}

    def run() -> None:
        while waiting and not stopped.is_set():
            try:
                number, piece = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            started[number] = time.monotonic()
            try:
                done.put((number, piece(), None))
            except BaseException as error:
                done.put((number, None, error))  # before the others are stopped, whose errors are none
                stopped.set()

    threads = [threading.Thread(target=run, name=NAME, daemon=True) for _ in range(min(workers, len(work)))]
    results: dict[int, T] = {}
    try:
        for thread in threads:
            thread.start()
        while len(results) < len(work):
            try:
                number, result, error = done.get(timeout=LOOK_S)
            except Empty:
                _check(started, results, limit_s)
                continue
            if error is not None:
                raise error
            results[number] = result  # type: ignore[assignment]
    finally:
        stopped.set()
        end = time.monotonic() + GRACE_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
    return [results[number] for number in range(len(work))]


def _check(started: dict[int, float], results: dict[int, T], limit_s: float) -> None:
    latest = time.monotonic() - limit_s - GRACE_S
    if any(at < latest for number, at in started.copy().items() if number not in results):
        raise Overdue
