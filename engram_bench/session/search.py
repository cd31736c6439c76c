"""A sweep over recipes: each trial trains one recipe and asks the suite; Optuna chooses the next and keeps what was found.

Everything is stored as soon as it is known: the trials in Optuna's journal, the adapters and answers in their stores. A sweep
that was interrupted goes on where it was, and the trial that was cut is done again from its adapter's last state.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engram_bench.errors import BackendError, StoreError, UsageError
from engram_bench.records import Comparison, Trial, TrialState
from engram_bench.records.plain import from_plain, to_plain
from engram_bench.scoring.objective import Objective
from engram_bench.session.space import Dimension, combinations
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import parse_json, read_bytes

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

Method = Literal["grid", "random", "tpe"]
SHORT_SHARE = 0.25
"""Share of the steps that a trial is trained for at first where trials are pruned."""
PRUNED_FROM = 3
"""Number of whole trainings before the first trial is pruned."""
MAX_JOURNAL_BYTES = 256 * 2**20
KEY, RESULT = "engram-bench", "trial"
"""Names of the attributes that hold the sweep's key, on the study, and the record, on each trial."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one training of a recipe came to."""

    comparison: Comparison
    adapter: str = ""
    steps: int = 0


Measure = Callable[[Mapping[str, Any], float], Measured]
"""Trains the recipe with these changes for a share of its steps, and asks the suite."""


@dataclass(frozen=True, slots=True)
class Search:
    """A sweep: where it is kept, what it may try, and what it looks for."""

    folder: Path
    space: Sequence[Dimension]
    objective: Objective
    method: Method
    num_trials: int | None
    """Number of trials in all, those of earlier sessions included; None tries every combination of a grid."""
    seed: int
    prunes: bool
    """Whether a recipe is trained for a quarter of its steps first, and dropped where that is below the median so far."""
    key: str
    """Identity of everything else that the trials' values depend on: the patterns, the model and the recipe they change."""

    @property
    def size(self) -> int:
        """Number of trials that the sweep ends with."""
        if self.method != "grid":
            return self.num_trials or 0
        whole = sum(1 for _ in combinations(self.space))
        return min(self.num_trials or whole, whole)

    def run(self, measure: Measure, watch: Callable[[Trial], None]) -> tuple[Trial, ...]:
        """All trials, those of earlier sessions first; *watch* gets each new one as soon as it is stored.

        Raises:
            StoreError: The journal cannot be read or written, or another process runs this sweep.
            UsageError: The journal is of a sweep over other patterns, another model, recipe, space or objective; or the
                patterns do not give the objective's metric.
        """
        with self._study() as study:
            _end_cut_trials(study)
            self._line_up(study)
            while len(_finished(study)) < self.size:
                watch(self._one(study, measure))
            return tuple(_finished(study))

    def _one(self, study: Study, measure: Measure) -> Trial:
        asked = study.ask({dimension.field: _distribution(dimension) for dimension in self.space})
        number, changes, started = len(_finished(study)) + 1, dict(asked.params), time.perf_counter()
        try:
            measured, state = self._measured(asked, measure)
            trial = self._trial(number, changes, measured, state)
        except BackendError as error:  # a rate at which training diverges is a result of the sweep, not its end
            trial = Trial(number, changes, "failed", reason=str(error))
        trial = replace(trial, seconds=time.perf_counter() - started)
        for gate, excess in zip(self.objective.gates, trial.excesses, strict=False):  # a failed trial has no excesses
            asked.set_constraint(str(gate), excess)
        asked.set_user_attr(RESULT, to_plain(trial))
        _tell(study, asked.number, trial)
        return trial

    def _measured(self, asked: OptunaTrial, measure: Measure) -> tuple[Measured, TrialState]:
        if self.prunes:
            early = measure(asked.params, SHORT_SHARE)
            asked.report(self.objective.value(early.comparison).value, step=1)
            if asked.should_prune():
                return early, "pruned"
        return measure(asked.params, 1.0), "done"

    def _trial(self, number: int, changes: Mapping[str, Any], measured: Measured, state: TrialState) -> Trial:
        comparison = measured.comparison
        candidates = ((name, measure.candidate) for name, measure in comparison.measures.items())
        return Trial(
            number,
            changes,
            state,
            value=self.objective.value(comparison),
            excesses=self.objective.excesses(comparison),
            measures={name: value for name, value in candidates if value is not None},
            adapter=measured.adapter,
            steps=measured.steps,
        )

    def _line_up(self, study: Study) -> None:
        """Line up the recipes of trials that were cut, and those of a grid, unless they are done or in the line."""
        known = [dict(trial.changes) for trial in _finished(study)]
        waiting = [each for each in study.trials if each.state.name == "WAITING"]
        known += [_params(each) for each in waiting]
        cut = [_params(each) for each in study.trials if each.state.name == "FAIL" and RESULT not in each.user_attrs]
        grid = combinations(self.space) if self.method == "grid" else ()
        for changes in (*cut, *grid):
            if changes not in known and len(changes) == len(self.space):
                study.enqueue_trial(changes)
                known.append(changes)

    @contextmanager
    def _study(self) -> Iterator[Study]:
        """The sweep's study, for this process alone."""
        if find_spec("optuna") is None:
            raise UsageError("sweep: Optuna is not installed: pip install 'engram-bench[sweep]'")
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = self.folder / "journal.log"
        with _alone_in(self.folder):
            Path(f"{journal}.lock").unlink(missing_ok=True)  # of a process that was killed: ours is the only one
            try:
                _drop_half_a_line(journal)
                study = self._opened(journal)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, OSError) as error:
                expected = "a journal of engram-bench sweep; use another --name"
                msg = f"{journal}: cannot be read ({error}), expected {expected}"
                raise StoreError(msg) from error
            yield study

    def _opened(self, journal: Path) -> Study:
        """The study in a journal; whatever in it is not a sweep's raises an error."""
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))),
            study_name=KEY,
            direction="maximize" if self.objective.direction == "max" else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNED_FROM),
            load_if_exists=True,
        )
        self._check_key(study)
        study.sampler = self._sampler(len(study.trials))
        _finished(study)
        return study

    def _sampler(self, num_trials: int) -> BaseSampler:
        """The sampler; with the number of trials in its seed, a sweep that goes on does not draw its first ones again."""
        import optuna

        if self.method == "tpe":
            return optuna.samplers.TPESampler(seed=self.seed + num_trials)
        return optuna.samplers.RandomSampler(seed=self.seed + num_trials)

    def _check_key(self, study: Study) -> None:
        identity = json.dumps([self.key, self.objective.text, [asdict(each) for each in self.space]])
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        if study.user_attrs.get(KEY, key) != key:
            msg = (
                f"{self.folder}: was begun over other patterns, another model, recipe or backend, another --over or "
                "--objective; use another --name, or --restart"
            )
            raise UsageError(msg)
        study.set_user_attr(KEY, key)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock.

    Raises:
        StoreError: Another process holds it.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        msg = f"{folder}: another process runs this sweep, expected it to end first, or another --name"
        raise StoreError(msg) from error


# ── Optuna ──────────────────────────────────────────────────────────────────────────────────────


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)


def _finished(study: Study) -> list[Trial]:
    """The trials with a result, in order of their beginnings.

    Raises:
        ValueError: A result is not one of a sweep.
    """
    return [from_plain(Trial, each.user_attrs[RESULT]) for each in study.trials if RESULT in each.user_attrs]


def _tell(study: Study, number: int, trial: Trial) -> None:
    from optuna.trial import TrialState as State

    state = {"done": State.COMPLETE, "pruned": State.PRUNED, "failed": State.FAIL}[trial.state]
    study.tell(number, trial.value.value if trial.state == "done" and trial.value else None, state)


def _params(trial: FrozenTrial) -> dict[str, Any]:
    """The recipe of a trial, which one in the line has not taken up yet."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _end_cut_trials(study: Study) -> None:
    """Call every trial failed that was running when its process ended; Optuna learns of one whose result was stored."""
    from optuna.trial import TrialState as State

    for each in study.get_trials(states=(State.RUNNING,)):
        if RESULT in each.user_attrs:
            _tell(study, each.number, from_plain(Trial, each.user_attrs[RESULT]))
        else:
            study.tell(each.number, state=State.FAIL)


def _drop_half_a_line(journal: Path) -> None:
    """Take off what a killed process left of a line.

    Raises:
        ValueError: The last line is no entry of a journal. Optuna checks every other line, and would write after this one.
    """
    content = read_bytes(journal, limit=MAX_JOURNAL_BYTES) if journal.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole:
        entry = parse_json(whole.splitlines()[-1].decode())
        if not (isinstance(entry, dict) and "op_code" in entry):
            msg = "its last line is no entry"
            raise ValueError(msg)
    if whole != content:
        write_atomic(journal, whole.decode())
