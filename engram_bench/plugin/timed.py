"""One side of a speed test with its `benchmark`, and the fixtures that hand it to the suite's speed tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from engram_bench.errors import EngramBenchError
from engram_bench.plugin.carrier import SPEED
from engram_bench.plugin.handle import candidate_of, or_fail
from engram_bench.plugin.items import candidate_name
from engram_bench.plugin.outlet import fail, fail_with, skip
from engram_bench.plugin.parts import part
from engram_bench.records import DeviceInfo, SpeedRounds
from engram_bench.speed.cases import SpeedCase

if TYPE_CHECKING:
    from engram_bench.speed.lab import SpeedTiming


@dataclass(frozen=True, slots=True)
class Timed:
    """One side of a speed test, loaded."""

    item: pytest.Item
    timing: SpeedTiming
    device: DeviceInfo

    def run(self, benchmark: Any) -> None:
        """Time the side in rounds of *benchmark*, each beside one of the baseline's, and hand them to the ledger.

        With ``--benchmark-disable`` the side runs once and nothing is judged.
        """
        try:
            self._run(benchmark)
        except EngramBenchError as error:
            fail_with(error)
        except MemoryError as error:
            fail(f"memory ran out: {error} (what other tests measured stays in the report)")

    def _run(self, benchmark: Any) -> None:
        timing, case = self.timing, self.timing.case
        batch = str(case.batch) if case.batch > 1 else ""
        benchmark.group = " ".join(filter(None, (case.test, batch, candidate_name(self.item))))
        if benchmark.disabled:
            benchmark.pedantic(timing.work)
            return
        benchmark.pedantic(timing.work, setup=timing.prepare, rounds=timing.rounds)
        for added in timing.finish():
            benchmark.stats.update(added.seconds)
        rounds = timing.result()
        self.item.stash[SPEED] = [rounds]
        benchmark.extra_info.update(_extra_info(rounds), **_where(self.device))


def _extra_info(rounds: SpeedRounds) -> dict[str, Any]:
    """Values that pytest-benchmark saves and compares beside its times."""
    (summary,) = part("speed_figures")([rounds])
    is_first = rounds.test == "first_token"
    return {
        "side": rounds.side,
        "batch": rounds.batch,
        "tokens": summary.tokens,
        "tok_s": summary.tok_s.value if summary.tok_s else None,
        "ttft_ms": 1000 * summary.p50_s if is_first else None,
        "ratio": summary.ratio.value if summary.ratio else None,
        "ratio_interval": summary.ratio.interval if summary.ratio else None,
        "peak_memory_mb": rounds.peak_memory_mb,
        "conditions": rounds.conditions,
    }


def _where(device: DeviceInfo) -> dict[str, str]:
    return {"backend": device.backend, "device": device.device, "dtype": device.dtype}


@pytest.fixture
def engram_speed_case(request: pytest.FixtureRequest) -> SpeedCase:
    """The candidate, in a test that has no other side."""
    return SpeedCase(request.function.__name__.removeprefix("test_"), "candidate")


@pytest.fixture
def timed(request: pytest.FixtureRequest, engram_speed_case: SpeedCase, engram_candidate: str) -> Timed:
    """One side of one of the speed suite's tests, loaded.

    Suite functions ask for it before ``benchmark``, which complains when a test ends without using it.
    """
    if hasattr(request.config, "workerinput"):
        skip("speed is not measured under xdist, where workers share the machine: run without -n")
    session, pattern_set = candidate_of(request.node), request.node.getparent(pytest.Module).pattern_set
    timing = or_fail(lambda: session.timing(pattern_set, engram_speed_case))
    return Timed(request.node, timing, session.bench.engine.device)
