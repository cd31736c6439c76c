"""Sides of a comparison, loaded and timed: what each speed test runs, and the rounds until its gate is decided.

Neither the completion store nor drafts take part: a generator is asked directly, so nothing computed before makes it faster.
A generator returns finished text, so any work queued on a device is done when the clock stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engram_bench.backends.protocol import Generator
from engram_bench.errors import BackendError, PatternFileError
from engram_bench.records import Comparison, GenerationSettings, PatternSet, Prompt, Side, SpeedPlan, SpeedRounds
from engram_bench.scoring.gates import Gate, judge
from engram_bench.scoring.speed import RATIO_METRICS, speed_measure
from engram_bench.speed.cases import SpeedCase
from engram_bench.speed.conditions import Conditions, clock_mhz, peak_memory_mb, pin, reset_peak_memory
from engram_bench.speed.timer import PairedTimer, Round, Work, nothing

if TYPE_CHECKING:
    from engram_bench.models import Model

Loader = Callable[[], ExitStack]
"""Loads a model on a backend that shares nothing with any other; closing the result gives everything back."""


@dataclass(frozen=True, slots=True)
class TimingRules:
    """How long the sides are timed, and which gates end the timing."""

    seed: int
    max_tokens: int
    """New tokens of an answer at most."""
    rounds: int | None
    """Rounds of a test before its gates are judged; None takes the pattern file's number."""
    budget_s: float
    """Seconds of further rounds per test while a gate is undecided."""
    gates: Sequence[Gate] = ()


@dataclass
class SpeedLab:
    """Loads each side once and gives the timing of every case; close it to give the sides back."""

    model: Model
    open_side: Callable[[Side], Generator]
    """Loads a side whose speed is to be measured."""
    open_loader: Callable[[], Loader]
    """Imports the backend's libraries and gives the loader that ``load_time`` runs."""
    rules: TimingRules
    _lifetimes: ExitStack = field(default_factory=ExitStack)
    _generators: dict[Side, Generator] = field(default_factory=dict)

    def timing(self, pattern_set: PatternSet, case: SpeedCase) -> SpeedTiming:
        """*case* ready to be timed: its sides loaded, its prompts known to fit.

        Raises:
            PatternFileError: A prompt with its new tokens exceeds the context.
            EngramBenchError: The model or the adapter cannot be had.
        """
        plan = pattern_set.speed
        assert plan is not None  # the case came out of the plan
        if case.test == "load_time":
            loads = _Loads(self.open_loader())
            return SpeedTiming(plan, case, self.rules, loads.load, None, loads.give_back)
        self._check_lengths(pattern_set.path, plan)
        side = self._work(plan, case, case.side)
        reference = self._work(plan, case, "baseline") if case.side != "baseline" else None
        return SpeedTiming(plan, case, self.rules, side, reference)

    def close(self) -> None:
        """Close the sides; safe to call twice."""
        self._generators.clear()
        self._lifetimes.close()

    def _generator(self, side: Side) -> Generator:
        if side not in self._generators:
            self._generators[side] = self._lifetimes.enter_context(closing(self.open_side(side)))
        return self._generators[side]

    def _work(self, plan: SpeedPlan, case: SpeedCase, side: Side) -> Work:
        generator = self._generator(side)
        prompts = [Prompt(text) for text in plan.prompts]
        seed = self.rules.seed
        if case.test == "first_token":
            return _first_token(generator, prompts, GenerationSettings(max_tokens=1, seed=seed, ignore_eos=True))
        if case.test == "time_to_answer":
            settings = GenerationSettings(max_tokens=self.rules.max_tokens, seed=seed)
            return _completions(generator, prompts, 1, settings)
        settings = GenerationSettings(max_tokens=plan.num_tokens, seed=seed, ignore_eos=True)
        return _completions(generator, prompts, case.batch, settings)

    def _check_lengths(self, path: str, plan: SpeedPlan) -> None:
        model = self.model
        new = max(plan.num_tokens, self.rules.max_tokens)
        lengths = [len(model.tokenizer.encode_prompt(Prompt(text))) for text in plan.prompts]
        mistakes = [
            f"prompt {number}: {length} tokens + {new} new, expected at most {model.context_length} together"
            for number, length in enumerate(lengths, 1)
            if length + new > model.context_length
        ]
        if mistakes:
            raise PatternFileError(path, mistakes)


class SpeedTiming:
    """One side of one test, being timed.

    In each round a benchmark calls :meth:`prepare` untimed and :meth:`work` timed; :meth:`finish` adds the rounds that the
    gates still need. :meth:`measure` does all of it.
    """

    def __init__(
        self,
        plan: SpeedPlan,
        case: SpeedCase,
        rules: TimingRules,
        side: Work,
        reference: Work | None,
        after_round: Callable[[], None] = nothing,
    ) -> None:
        self.case = case
        self.rounds = rules.rounds or plan.rounds
        self._budget_s = rules.budget_s
        largest = max(plan.batch_sizes) if case.test == "batch_throughput" else 1
        metric = RATIO_METRICS.get((case.test, case.side)) if case.batch == largest else None
        self._metric = metric if reference is not None else None
        self._gates = [gate for gate in rules.gates if gate.metric == metric and not gate.scope]
        self._conditions: Conditions = pin()
        self._after = after_round
        self._mhz = clock_mhz()
        self._timer = PairedTimer(side, reference, after_round=self._after_round)
        reset_peak_memory()

    def prepare(self) -> None:
        """Run the warm-up, then the baseline's rounds that are due before the side's next round."""
        self._timer.prepare()

    def work(self) -> None:
        """Run the side's next round."""
        self._timer.time_side()

    def finish(self) -> list[Round]:
        """The rounds added until the metric's gates are decided or the budget is spent; none without a gate."""
        self._timer.settle()
        return self._timer.extend(self._is_decided, budget_s=self._budget_s)

    def measure(self) -> SpeedRounds:
        """All rounds, without a benchmark around them.

        Raises:
            BackendError: As :meth:`result`.
        """
        for _ in range(self.rounds):
            self.prepare()
            self.work()
        self.finish()
        return self.result()

    def result(self) -> SpeedRounds:
        """The rounds measured so far.

        Raises:
            BackendError: The clock measured no time in any round.
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
    """Loads a model in every round and gives it back after the round."""

    _load: Loader
    _loaded: ExitStack = field(default_factory=ExitStack)

    def load(self, number: int) -> int:
        self._loaded = self._load()
        return 0

    def give_back(self) -> None:
        self._loaded.close()


def _completions(generator: Generator, prompts: Sequence[Prompt], batch: int, settings: GenerationSettings) -> Work:
    """Work that completes the next *batch* prompts; the first prompt follows the last."""

    def work(number: int) -> int:
        chosen = [prompts[(number * batch + offset) % len(prompts)] for offset in range(batch)]
        found = [completion.completion_tokens for completion in generator.complete(chosen, settings)]
        if settings.ignore_eos and set(found) != {settings.max_tokens}:
            msg = f"timed round: {min(found)} new tokens, expected {settings.max_tokens} with the end token ignored"
            raise BackendError(msg)
        return sum(found)

    return work


def _first_token(generator: Generator, prompts: Sequence[Prompt], settings: GenerationSettings) -> Work:
    """Work that streams the first piece of text after the next prompt."""

    def work(number: int) -> int:
        for _ in generator.stream(prompts[number % len(prompts)], settings):
            break
        return 1

    return work
