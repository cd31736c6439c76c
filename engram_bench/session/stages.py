"""How long the stages of a session take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class StageClock:
    """Wall seconds by stage: train, baseline, candidate. A stage that is served from a store takes next to none."""

    seconds: dict[str, float] = field(default_factory=dict)
    _inner_s: float = 0.0
    """Seconds of the stages that ended inside the one that runs now."""

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's seconds to *stage*, without the seconds of other stages inside the block."""
        outer_s, self._inner_s = self._inner_s, 0.0
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed - self._inner_s
            self._inner_s = outer_s + elapsed
