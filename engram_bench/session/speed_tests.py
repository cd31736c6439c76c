"""The sides of a session in a speed lab, and a run with all of its speed tests timed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

from engram_bench.backends import registry
from engram_bench.errors import EngramBenchError
from engram_bench.records import PatternSet, Run
from engram_bench.scoring.gates import own_gates
from engram_bench.session.engine import Engine
from engram_bench.session.respondents import Respondents
from engram_bench.session.tuning import Tuning
from engram_bench.speed.cases import SPEED_TESTS, speed_cases
from engram_bench.speed.lab import Loader, SpeedLab, TimingRules
from engram_bench.system.progress import Progress


def speed_lab(engine: Engine, tuning: Tuning, respondents: Respondents) -> SpeedLab:
    """A lab over the sides of a session; it loads nothing yet, and its router scores every question again.

    Raises:
        UsageError: A gate of the settings cannot be read.
    """
    settings = engine.settings
    rules = TimingRules(
        seed=settings.asked_seed,
        max_tokens=settings.max_tokens,
        rounds=settings.speed_rounds,
        budget_s=settings.speed_budget,
        gates=own_gates(settings.gate),
    )
    return SpeedLab(
        engine.model,
        open_side=lambda side: respondents.of(side, is_timed=True).open(),
        open_loader=partial(_loader, engine, tuning),
        rules=rules,
    )


def with_speed(run: Run, lab: SpeedLab, sets: Sequence[PatternSet], progress: Progress) -> tuple[Run, dict[str, str]]:
    """*run* with every side timed that the speed files among *sets* name; and test → why it could not be timed.

    A test that fails counts as missing in the run, so that no gate passes over it; the other tests are kept.
    """
    asked = [
        (pattern_set, case) for pattern_set in sets for test in SPEED_TESTS for case in speed_cases(pattern_set, test)
    ]
    found, failed = [], {}
    for number, (pattern_set, case) in enumerate(asked):
        progress("speed", number, len(asked), f"{case.test} {case.id}")
        try:
            found.append(lab.timing(pattern_set, case).measure())
        except (EngramBenchError, MemoryError) as error:
            name = f"{pattern_set.path}::test_{case.test}[{case.id}]"
            failed[name] = str(error) or type(error).__name__
    progress("speed", len(asked), len(asked), "")
    return replace(run, speed=tuple(found), missing=tuple(sorted({*run.missing, *failed}))), failed


def _loader(engine: Engine, tuning: Tuning) -> Loader:
    """The loader of the candidate on a backend of its own; its libraries are imported before anything is timed."""
    name, adapter = engine.backend.name, tuning.adapter

    def load() -> ExitStack:
        with ExitStack() as loaded:
            backend = loaded.enter_context(closing(registry.create(name, **engine.settings.by_field)))
            loaded.enter_context(closing(backend.load(engine.model, adapter.path if adapter else None)))
            return loaded.pop_all()

    return load
