"""What each speed test times on a side, and its rounds beside the baseline's until its gate is decided.

The completion store and drafts are out of it: a generator is asked directly, and what it is not given cannot make it
faster. A generator returns finished text, so whatever it queued on a device is done when the clock stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from engram_bench.backends import registry
from engram_bench.backends.protocol import Backend, Generator
from engram_bench.errors import BackendError, EngramBenchError, PatternFileError
from engram_bench.records import (
    Comparison,
    GenerationSettings,
    PatternSet,
    Prompt,
    Run,
    Side,
    SpeedPlan,
    SpeedRounds,
)
from engram_bench.scoring.gates import Gate, judge, session_gates
from engram_bench.scoring.speed import RATIO_METRICS, speed_measure
from engram_bench.session.bench import Bench
from engram_bench.session.plan import SPEED_TESTS, SpeedCase, speed_cases
from engram_bench.speed.conditions import Conditions, clock_mhz, peak_memory_mb, pin, reset_peak_memory
from engram_bench.speed.timer import PairedTimer, Round, Work, nothing


@dataclass
class SpeedLab:
    """The loaded sides of a session's speed tests."""

    bench: Bench
    _generators: dict[Side, Generator] = field(default_factory=dict)

    def timing(self, pattern_set: PatternSet, case: SpeedCase) -> SpeedTiming:
        """*case* ready to be timed: its sides loaded, its prompts known to fit.

        Raises:
            PatternFileError: A prompt with its new tokens exceeds the context.
            EngramBenchError: The model or the adapter cannot be had.
        """
        plan = pattern_set.speed
        assert plan is not None  # the case came out of it
        if case.test == "load_time":
            loads = _Loads(self.bench, self.bench.backend.name)  # whose libraries are imported from here on
            return SpeedTiming(self.bench, plan, case, loads.load, None, loads.give_back)
        self._check_lengths(pattern_set.path, plan)
        side = self._work(plan, case, case.side)
        reference = self._work(plan, case, "baseline") if case.side != "baseline" else None
        return SpeedTiming(self.bench, plan, case, side, reference)

    def close(self) -> None:
        """Give the sides back."""
        while self._generators:
            self._generators.popitem()[1].close()

    def _generator(self, side: Side) -> Generator:
        if side not in self._generators:
            self._generators[side] = self.bench.open_generator(side, is_timed=True)
        return self._generators[side]

    def _work(self, plan: SpeedPlan, case: SpeedCase, side: Side) -> Work:
        generator = self._generator(side)
        prompts = [Prompt(text) for text in plan.prompts]
        seed = self.bench.settings.seed
        if case.test == "first_token":
            return _first_token(generator, prompts, GenerationSettings(max_tokens=1, seed=seed, ignore_eos=True))
        if case.test == "time_to_answer":
            limit = self.bench.settings.max_tokens
            return _completions(generator, prompts, 1, GenerationSettings(max_tokens=limit, seed=seed))
        settings = GenerationSettings(max_tokens=plan.num_tokens, seed=seed, ignore_eos=True)
        return _completions(generator, prompts, case.batch, settings)

    def _check_lengths(self, path: str, plan: SpeedPlan) -> None:
        model = self.bench.model
        new = max(plan.num_tokens, self.bench.settings.max_tokens)
        lengths = [len(model.tokenizer.encode_prompt(Prompt(text))) for text in plan.prompts]
        mistakes = [
            f"prompt {number}: {length} tokens + {new} new, expected at most {model.context_length} together"
            for number, length in enumerate(lengths, 1)
            if length + new > model.context_length
        ]
        if mistakes:
            raise PatternFileError(path, mistakes)


def with_speed(bench: Bench, run: Run) -> tuple[Run, dict[str, str]]:
    """*run* with every side timed that the speed files of *bench* name; and test → why it could not be timed.

    A test that fails is missing in the run, so that no gate can pass it over; the others are kept.
    """
    asked = [
        (pattern_set, case)
        for pattern_set in bench.sets
        for test in SPEED_TESTS
        for case in speed_cases(pattern_set, test)
    ]
    lab, found, failed = SpeedLab(bench), [], {}
    try:
        for number, (pattern_set, case) in enumerate(asked):
            name = f"{pattern_set.path}::test_{case.test}[{case.id}]"
            bench.progress("speed", number, len(asked), f"{case.test} {case.id}")
            try:
                found.append(_timed(lab.timing(pattern_set, case)))
            except (EngramBenchError, MemoryError) as error:
                failed[name] = str(error) or type(error).__name__
        bench.progress("speed", len(asked), len(asked), "")
    finally:
        lab.close()
    return replace(run, speed=tuple(found), missing=tuple(sorted({*run.missing, *failed}))), failed


def _timed(timing: SpeedTiming) -> SpeedRounds:
    for _ in range(timing.rounds):
        timing.prepare()
        timing.work()
    timing.finish()
    return timing.result()


class SpeedTiming:
    """One side of one test, being timed.

    In each round a benchmark calls :meth:`prepare` untimed and :meth:`work` timed; :meth:`finish` adds what the gate still
    needs.
    """

    def __init__(
        self,
        bench: Bench,
        plan: SpeedPlan,
        case: SpeedCase,
        side: Work,
        reference: Work | None,
        after_round: Callable[[], None] = nothing,
    ) -> None:
        self.case = case
        self.rounds = bench.settings.speed_rounds or plan.rounds
        self._budget_s = bench.settings.speed_budget
        largest = max(plan.batch_sizes) if case.test == "batch_throughput" else 1
        metric = RATIO_METRICS.get((case.test, case.side)) if case.batch == largest else None
        self._metric = metric if reference is not None else None
        self._gates = [gate for gate in session_gates(bench.settings.gate) if gate.metric == metric and not gate.scope]
        self._conditions: Conditions = pin()
        self._after = after_round
        self._mhz = clock_mhz()
        self._timer = PairedTimer(side, reference, after_round=self._after_round)
        reset_peak_memory()

    def prepare(self) -> None:
        """Warm-up, then the baseline's rounds due before the next of this side."""
        self._timer.prepare()

    def work(self) -> None:
        """The side's next round."""
        self._timer.time_side()

    def finish(self) -> list[Round]:
        """The rounds added until the metric's gates are decided or the budget is spent; none without a gate."""
        self._timer.settle()
        return self._timer.extend(self._is_decided, budget_s=self._budget_s)

    def result(self) -> SpeedRounds:
        """The rounds measured so far.

        Raises:
            BackendError: The clock told no time for any of them.
        """
        pairs = self._timer.pairs
        if not pairs:
            msg = f"{self.case.test}: the clock stood still in every round, expected a monotonic clock"
            raise BackendError(msg)
        return SpeedRounds(
            test=self.case.test,
            side=self.case.side,
            seconds=tuple(mine.seconds for mine, _ in pairs),
            tokens=tuple(mine.tokens for mine, _ in pairs),
            baseline_s=tuple(other.seconds for _, other in pairs) if self._timer.reference else (),
            batch=self.case.batch,
            peak_memory_mb=peak_memory_mb(),
            conditions=self._conditions_words(),
        )

    def _is_decided(self) -> bool:
        return self._metric is None or is_decided(self._metric, self._gates, self.result())

    def _after_round(self) -> None:
        self._after()
        self._conditions.check()

    def _conditions_words(self) -> str:
        mhz = [each for each in (self._mhz, clock_mhz()) if each is not None]
        clock = " → ".join(dict.fromkeys(f"{each:.0f}" for each in mhz))
        return f"{self._conditions}, {clock} MHz" if clock else str(self._conditions)


def is_decided(metric: str, gates: Sequence[Gate], rounds: SpeedRounds) -> bool:
    """Whether these rounds let every one of the gates pass or fail; True where there are no gates."""
    if not gates:
        return True
    comparison = Comparison({metric: speed_measure(metric, rounds)}, {}, ())
    return all(verdict.outcome in ("pass", "fail") for verdict in judge(gates, comparison))


@dataclass
class _Loads:
    """Loads the candidate anew each round, on a backend of its own that shares nothing with the session's."""

    bench: Bench
    backend_name: str
    _open: list[Generator | Backend] = field(default_factory=list)

    def load(self, number: int) -> int:
        adapter = self.bench.adapter
        backend = registry.create(self.backend_name)
        self._open.append(backend)
        self._open.append(backend.load(self.bench.model, adapter.path if adapter else None))
        return 0

    def give_back(self) -> None:
        while self._open:
            self._open.pop().close()


def _completions(generator: Generator, prompts: Sequence[Prompt], batch: int, settings: GenerationSettings) -> Work:
    """Completes the next *batch* prompts, beginning again after the last."""

    def work(number: int) -> int:
        chosen = [prompts[(number * batch + offset) % len(prompts)] for offset in range(batch)]
        found = [completion.completion_tokens for completion in generator.complete(chosen, settings)]
        if settings.ignore_eos and set(found) != {settings.max_tokens}:
            msg = f"timed round: {min(found)} new tokens, expected {settings.max_tokens} with the end token ignored"
            raise BackendError(msg)
        return sum(found)

    return work


def _first_token(generator: Generator, prompts: Sequence[Prompt], settings: GenerationSettings) -> Work:
    """Streams the next prompt's first piece of text."""

    def work(number: int) -> int:
        for _ in generator.stream(prompts[number % len(prompts)], settings):
            break
        return 1

    return work
