"""The speed lab over sides that are only counted."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from engram_bench.backends.fake import FakeGenerator, FakeModel
from engram_bench.errors import PatternFileError
from engram_bench.records import PatternSet, Side, SpeedPlan
from engram_bench.speed.cases import SpeedCase, speed_cases
from engram_bench.speed.lab import Loader, SpeedLab, TimingRules

SPEED = PatternSet("speed", "speed.yaml", "speed", speed=SpeedPlan(prompts=("Hello?",), num_tokens=2, rounds=2))


class Counted(FakeGenerator):
    closed = 0

    def close(self) -> None:
        self.closed += 1


@dataclass
class Sides:
    """Remembers which sides were opened, and what became of the loads."""

    opened: dict[Side, Counted] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)

    def open(self, side: Side) -> Counted:
        assert side not in self.opened
        self.opened[side] = Counted({})
        return self.opened[side]

    def loader(self) -> Loader:
        def load() -> ExitStack:
            loaded = ExitStack()
            self.loads.append("loaded")
            loaded.callback(self.loads.append, "given back")
            return loaded

        return load

    def lab(self, max_tokens: int = 8) -> SpeedLab:
        rules = TimingRules(seed=0, max_tokens=max_tokens, rounds=None, budget_s=0.0)
        return SpeedLab(FakeModel(), self.open, self.loader, rules)  # type: ignore[arg-type]


def test_a_side_is_loaded_once_and_closed_with_the_lab() -> None:
    sides = Sides()
    lab = sides.lab()

    for case in speed_cases(SPEED, "decode_speed"):
        lab.timing(SPEED, case)
    lab.close()
    lab.close()

    assert {side: generator.closed for side, generator in sides.opened.items()} == {
        "baseline": 1,
        "candidate": 1,
        "fused": 1,
    }


def test_every_round_of_load_time_loads_and_gives_back() -> None:
    sides = Sides()

    rounds = sides.lab().timing(SPEED, SpeedCase("load_time", "candidate")).measure()

    assert len(rounds.seconds) == 2
    assert sides.loads == ["loaded", "given back"] * 3  # the first one warms up


def test_prompts_that_do_not_fit_are_found_before_a_side_is_loaded() -> None:
    sides = Sides()

    with pytest.raises(PatternFileError, match=r"prompt 1: \d+ tokens \+ 5000 new, expected at most 4096 together"):
        sides.lab(max_tokens=5000).timing(SPEED, SpeedCase("decode_speed", "candidate"))

    assert sides.opened == {}
