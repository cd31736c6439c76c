"""One session as plain steps: patterns → adapter → answers → run; ``conclusion`` judges the run.

A :class:`Bench` puts together what the steps share. The parts are made when first needed, so that a session whose adapter and
answers are stored imports no heavy library at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from engram_bench.errors import AdapterError, EngramBenchError, PatternFileError, UnsupportedError
from engram_bench.inference.ask import Question, with_limit
from engram_bench.records import (
    Case,
    CaseResult,
    Measure,
    PatternSet,
    Provenance,
    Run,
    Side,
    SweepPoint,
    Timing,
)
from engram_bench.scoring import drift
from engram_bench.session.early import check_early
from engram_bench.session.engine import Engine
from engram_bench.session.inspection import Inspector
from engram_bench.session.plan import greedy, suite_questions
from engram_bench.session.respondents import Respondents
from engram_bench.session.settings import ATTACHED, Settings
from engram_bench.session.shared import Shared
from engram_bench.session.speed_tests import speed_lab
from engram_bench.session.stages import StageClock
from engram_bench.session.sweep import SWEPT, sweep
from engram_bench.session.tuning import Tuning
from engram_bench.speed.lab import SpeedLab
from engram_bench.system import provenance
from engram_bench.system.progress import Progress, about, no_progress

COMPARED: tuple[Side, ...] = ("baseline", "candidate")
"""The sides that every question is put to."""

WITH_LIKELIHOODS = {"generalization", "consistency", "retention"}
"""Tests beside which log-likelihoods of the answers to seen prompts are computed; accuracy alone stays the fastest job."""


class Bench:
    """One session's model, backend, adapter and stores.

    Use as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        settings: Settings,
        sets: tuple[PatternSet, ...],
        cache_dir: Path,
        *,
        progress: Progress = no_progress,
        session: str = "",
        session_dir: Path | None = None,
        shared: Shared | None = None,
    ) -> None:
        """A bench that has loaded nothing yet.

        Args:
            settings: The options of the session.
            sets: Pattern sets that are trained on.
            cache_dir: Folder of models and of stored completions.
            progress: Callable that shows how far long work has come.
            session: Name of the session, the same in all its processes and in no other session; empty makes a new one.
            session_dir: Folder that all processes of the session share and that ends with the session.
            shared: Parts that other benches of the session use as well, which their maker closes; None makes new ones.
        """
        self.settings = settings
        self.sets = sets
        self.clock = StageClock()
        self.owns_shared = shared is None
        self.engine = Engine(settings, cache_dir, progress, session_dir, shared or Shared())
        self.tuning = Tuning(settings, sets, self.engine, self.clock, session or uuid4().hex)
        other = settings.baseline
        baseline = replace(self.engine, settings=other, lifetimes=self.engine.lifetimes) if other else self.engine
        self.respondents = Respondents(self.engine, self.tuning, baseline)

    def under(self, settings: Settings) -> Bench:
        """A bench over the same pattern sets under other settings, which shares models, base weights and stores with this one."""
        engine = self.engine
        return Bench(
            settings,
            self.sets,
            engine.cache_dir,
            progress=about(settings.candidate, engine.progress),
            session=self.tuning.session,
            session_dir=engine.session_dir,
            shared=engine.shared,
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, *, has_adapter: bool = True) -> None:
        """Raise the first error that the session is sure to meet, before a model is loaded; see ``early``.

        The message names the candidate where it has a name; mistakes of pattern files have nothing to do with it.

        Args:
            has_adapter: Whether a candidate is asked; otherwise only the bare model.
        """
        name = self.settings.candidate
        try:
            check_early(self.engine, self.tuning, baseline=self.respondents.baseline, has_adapter=has_adapter)
        except PatternFileError:
            raise
        except EngramBenchError as error:
            if not name:
                raise
            msg = f"candidate {name!r}: {error}"
            raise type(error)(msg) from error

    def questions(self, cases: Iterable[Case], *, test: str = "accuracy") -> list[Question]:
        """One greedy question per case under the session's limits."""
        return [Question(case, test, with_limit(greedy(self.settings), case)) for case in cases]

    def answer(self, questions: Sequence[Question], side: Side) -> list[CaseResult]:
        """One scored result per question, in order.

        Raises:
            EngramBenchError: The adapter cannot be had, a prompt is too long, or the backend failed.
        """
        with self.clock.measure(side):
            respondent, engine = self.respondents.of(side), self.respondents.engine_of(side)
            results = engine.answerer(respondent).answer(questions, side)
            if {question.test for question in questions} & WITH_LIKELIHOODS:
                with suppress(UnsupportedError):
                    return engine.likelihoods.with_likelihoods(respondent, results)
            return results

    def measures(self, baseline: Sequence[CaseResult]) -> tuple[Measure, ...]:
        """The measures that single cases do not give.

        These are how well a router decides and, where controls were asked, the drift on controls and on ordinary text. There is
        no drift between models of different tokenizers.

        Args:
            baseline: The baseline's results.
        """
        route = self.respondents.route
        routed = route.measures(baseline) if route is not None else ()
        controls = [row for row in baseline if row.test == "retention" and row.sample == 0]
        if not controls:
            return routed
        sides, likelihoods = [self.respondents.of(side) for side in COMPARED], self.engine.likelihoods
        if len({side.model.tokenizer.template_fingerprint for side in sides}) > 1:
            return routed
        with suppress(UnsupportedError):
            kl = drift.control_kl(likelihoods.divergences(sides[0], sides[1], controls))
            perplexity = drift.perplexity(*[likelihoods.ordinary_text(side) for side in sides])
            return (*routed, *([kl] if kl is not None else []), perplexity)
        return routed

    def sweep(self, questions: Sequence[Question]) -> tuple[SweepPoint, ...]:
        """The rates of every checkpoint of the adapter on these questions; empty unless the settings ask for a sweep.

        Raises:
            AdapterError: The adapter kept no checkpoints, or the bare model is the candidate.
        """
        if not self.settings.sweep:
            return ()
        adapter = self.tuning.adapter
        if adapter is None:
            raise AdapterError("--engram-sweep: --engram-adapter=none has no checkpoints, expected an adapter")
        asked = [question for question in questions if question.test in SWEPT]
        return sweep(
            adapter,
            self.answer(asked, "baseline"),
            lambda each: self.engine.answerer(self.respondents.checkpoint(each)).answer(asked, "candidate"),
            self.run(),
        )

    def answer_as(self, form: str, questions: Sequence[Question]) -> list[CaseResult]:
        """One scored result per question, in order, from the adapter in another form of ``forms.FORMS``.

        Raises:
            AdapterError: The adapter is no plain LoRA.
        """
        return self.engine.answerer(self.respondents.as_form(form)).answer(questions, "fused")

    def inspector(self) -> Inspector:
        """The guards over this session's adapter."""
        return Inspector(self.engine, self.tuning, self.respondents, self.answer, self.run)

    def speed_lab(self) -> SpeedLab:
        """The sides of this session, to be timed; the caller closes the lab."""
        return speed_lab(self.engine, self.tuning, self.respondents)

    def run(self) -> Run:
        """The run as far as this bench knows: no name, no rows, and neither the command nor the start."""
        engine, adapter = self.engine, self.tuning.adapter
        model, device = engine.model, engine.device
        form = "" if self.settings.form == ATTACHED else f", {self.settings.form}"
        routed = "" if self.settings.route == "always" else f", routed by {self.settings.route}"
        other = self.respondents.baseline
        seconds = self.clock.seconds
        return Run(
            name="",
            provenance=Provenance(
                model=model.reference,
                model_fingerprint=model.fingerprint,
                backend=device.backend,
                device=device.device,
                dtype=device.dtype,
                adapter=f"{adapter.name}{form}{routed}" if adapter else "",
                commit=provenance.git_commit(),
                machine=provenance.machine(),
                command="",
                started="",
                versions={**provenance.library_versions(), **device.versions},
                adapter_note=self.tuning.adapter_note,
            ),
            candidate=self.settings.candidate,
            recipe=self.settings.recipe_name if adapter and self.settings.adapter == "auto" else "",
            baseline_model="" if other is engine else other.model.reference,
            training=adapter.manifest.training if adapter else None,
            timing=Timing(**{f"{stage}_s": seconds.get(stage, 0.0) for stage in ("train", *COMPARED)}),
        )

    def close(self) -> None:
        """Close adapters and, unless other benches share them, models and stores; closing loads nothing."""
        self.respondents.close()
        if self.owns_shared:
            self.engine.shared.close()


def finished(
    run: Run, results: Iterable[CaseResult], *, started: str, total_s: float, missing: Iterable[str] = ()
) -> Run:
    """The run of :meth:`Bench.run` with its rows, its command, its start and its wall seconds."""
    return replace(
        run,
        provenance=replace(run.provenance, command=provenance.command_line(), started=started),
        results=tuple(results),
        timing=replace(run.timing, total_s=total_s),
        missing=tuple(sorted(set(missing))),
    )


def evaluate(bench: Bench) -> Run:
    """The run of the whole suite over the bench's sets: both sides are asked every question, every answer is scored.

    Raises:
        EngramBenchError: Something on the way failed; answers from before the failure are stored.
    """
    started, clock = provenance.utc_now(), time.perf_counter()
    questions = {side: suite_questions(bench.sets, bench.settings, side) for side in COMPARED}
    answers = {side: bench.answer(questions[side], side) for side in COMPARED}
    measures, points = bench.measures(answers["baseline"]), bench.sweep(questions["candidate"])
    results = [row for rows in answers.values() for row in rows]
    run = replace(bench.run(), measures=measures, sweep=points)
    return finished(run, results, started=started, total_s=time.perf_counter() - clock)
