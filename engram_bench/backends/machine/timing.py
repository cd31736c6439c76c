"""How long a call takes where other work on the machine disturbs it least."""

from __future__ import annotations

import time
from collections.abc import Callable


def shortest_s(call: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the shortest of some *repeats* of a call, after one that may have to compile something."""
    call()
    found = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - started)
    return found
