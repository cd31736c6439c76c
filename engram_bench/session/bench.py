"""The journey as plain steps: patterns → adapter → answers → run; what a run comes to is in ``conclusion``.

:class:`Bench` holds what the steps share (model, backend, adapter, stores), each made when first needed, so that a session
whose adapter and answers are stored imports no heavy library at all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.adapters import store as adapter_store
from engram_bench.adapters.kinds import kind_of, requested_kind
from engram_bench.adapters.store import Adapter, AdapterIdentity
from engram_bench.backends import registry
from engram_bench.backends.protocol import Backend, Generator
from engram_bench.errors import AdapterError, UnsupportedError
from engram_bench.inference.ask import Answerer, Question, with_limit
from engram_bench.inference.likelihood import Reader
from engram_bench.inference.store import STORE_FILE, CompletionStore
from engram_bench.patterns.ordinary import replay_examples
from engram_bench.patterns.render import training_examples
from engram_bench.records import (
    Case,
    CaseResult,
    DeviceInfo,
    GenerationSettings,
    Measure,
    PatternSet,
    Provenance,
    Recipe,
    Run,
    Side,
    SweepPoint,
    Timing,
    TrainingExample,
    TrainingRecord,
)
from engram_bench.records.plain import canonical_json
from engram_bench.routing.generator import RoutedGenerator
from engram_bench.session.options import Settings
from engram_bench.session.sweep import SWEPT, sweep
from engram_bench.system import provenance
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model
    from engram_bench.routing.router import Router, Scorer


COMPARED: tuple[Side, ...] = ("baseline", "candidate")
"""The sides that every question is put to."""


def load_sets(settings: Settings, root: Path) -> tuple[PatternSet, ...]:
    """The pattern sets of the settings, checked one by one and against each other, paths shown below *root*.

    Raises:
        PatternFileError: A path is missing or a file has mistakes; all mistakes of all files.
    """
    from engram_bench import matchers
    from engram_bench.patterns.load import load_pattern_files

    return load_pattern_files(settings.patterns, root=root, known_matchers=matchers.names())


LOOKS_CLOSER = {"generalization", "consistency", "retention"}
"""Tests beside which the right answers to seen prompts are read as well: accuracy alone stays the fastest job."""


@dataclass
class Bench:
    """One session's model, backend, adapter and stores.

    Use as a context manager, or call :meth:`close`.
    """

    settings: Settings
    sets: tuple[PatternSet, ...]
    """The pattern sets that are trained on; the adapter's identity depends on them, not on what is selected."""
    cache_dir: Path
    progress: Progress = no_progress
    started: float = field(default_factory=time.time)
    """POSIX time (s) at which the session began, the same in all its processes: an adapter of before is retrained."""
    session_dir: Path | None = None
    """Folder that all processes of the session share and that ends with it; None makes one for this process."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds by stage: train, baseline, candidate; a stage served from a store takes next to none."""

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def backend_choice(self) -> tuple[str, str]:
        """Name of the backend and why it was chosen."""
        return registry.choose_backend(self.settings.backend)

    @property
    def backend_options(self) -> dict[str, object]:
        """Settings by field name; a backend gets those it takes."""
        return {field.name: getattr(self.settings, field.name) for field in fields(self.settings)}

    @property
    def is_served(self) -> bool:
        """Whether somebody else serves both models: nothing is trained, loaded or stored here."""
        return registry.is_evaluation_only(self.backend_choice[0])

    @cached_property
    def device(self) -> DeviceInfo:
        """Where the backend runs; the shortcuts it does without count as a version, so its answers are stored apart."""
        info = registry.device_info(self.backend_choice[0], **self.backend_options)
        without = ", ".join(sorted(self.settings.plain))
        return replace(info, versions={**info.versions, "plain": without}) if without else info

    @cached_property
    def model(self) -> Model:
        """The model to tune, downloaded and converted where needed."""
        return registry.resolve_model(
            self.backend_choice[0],
            self.settings.baseline_model if self.is_served else self.settings.model,
            cache=self.cache_dir,
            progress=self.progress,
        )

    @cached_property
    def backend(self) -> Backend:
        """The backend, its libraries imported: only when something must be trained or asked."""
        return registry.create(self.backend_choice[0], **self.backend_options)

    @cached_property
    def store(self) -> CompletionStore:
        """Stored completions; with ``no_cache``, or from a server, an empty store that ends with the session."""
        ends = self.settings.no_cache or self.is_served  # behind an address may be another model tomorrow
        folder = (self.session_dir or Path(self._scratch.name)) if ends else self.cache_dir
        return CompletionStore(folder / STORE_FILE, warn=lambda message: self.progress("store", 1, 1, message))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe the settings ask for."""
        kind, preset = requested_kind(self.settings.kind)
        return kind.recipe(self.settings, preset)

    @cached_property
    def examples(self) -> tuple[TrainingExample, ...]:
        """What the adapter is trained on."""
        variants = kind_of(self.recipe).augmentation(self.recipe)
        return training_examples(self.sets, augment=variants, seed=self.settings.seed)

    @cached_property
    def replayed(self) -> tuple[TrainingExample, ...]:
        """The ordinary prompts that are held to the bare model's answers while the adapter is trained."""
        return replay_examples(self.sets) if self.recipe.replay else ()

    @cached_property
    def identity(self) -> AdapterIdentity:
        """What the adapter of these sets, this model and this recipe is stored under."""
        return AdapterIdentity(
            base_fingerprint=self.model.fingerprint,
            template_fingerprint=self.model.tokenizer.template_fingerprint,
            examples=(*self.examples, *self.replayed),
            recipe=self.recipe,
        )

    @property
    def is_trained(self) -> bool:
        """Whether answering needs no training: the adapter is stored, or is not to be trained here."""
        if self.settings.adapter != "auto" or self.is_served:
            return True
        return not self.settings.retrain and (self.settings.adapter_dir / self.identity.name).exists()

    @cached_property
    def adapter(self) -> Adapter | None:
        """The adapter, loaded by fingerprint or trained; None when the bare model is the candidate.

        Raises:
            AdapterError: The stored adapter does not match its manifest, or belongs to another base model.
            BackendError: Training failed.
        """
        started = time.perf_counter()
        try:
            return self._obtain_adapter()
        finally:
            self.seconds["train"] = time.perf_counter() - started

    def _obtain_adapter(self) -> Adapter | None:
        wanted = self.settings.adapter
        if wanted == "none":
            return None
        if self.is_served:
            return adapter_store.served(self.settings.candidate_model, self.settings.baseline_model)
        if wanted != "auto":
            return adapter_store.load(Path(wanted), base_fingerprint=self.model.fingerprint)
        return adapter_store.obtain(
            self.settings.adapter_dir,
            self.identity,
            self._train,
            retrain_since=self.started if self.settings.retrain else None,
            wait_note=lambda note: self.progress("wait", 0, 1, note),
            base_reference=self.settings.model,
        )

    def _train(self, folder: Path) -> TrainingRecord:
        record = self.backend.train(self.model, self.identity.examples, self.recipe, folder, progress=self.progress)
        return replace(record, machine=provenance.machine())

    def questions(self, cases: Iterable[Case], *, test: str = "accuracy") -> list[Question]:
        """One greedy question per case under the session's limits."""
        greedy = GenerationSettings(max_tokens=self.settings.max_tokens)
        return [Question(case, test, with_limit(greedy, case)) for case in cases]

    def answer(self, questions: Sequence[Question], side: Side) -> list[CaseResult]:
        """One scored result per question, in order; the candidate is the adapter, or the bare model without one."""
        adapter = self.adapter if side != "baseline" else None
        started = time.perf_counter()
        try:
            results = self._answerer(side, adapter).answer(questions)
            if {question.test for question in questions} & LOOKS_CLOSER:
                with suppress(UnsupportedError):
                    return self.reader.with_likelihoods(results)
            return results
        finally:
            self.seconds[side] = self.seconds.get(side, 0.0) + time.perf_counter() - started

    def measures(self, baseline: Sequence[CaseResult]) -> tuple[Measure, ...]:
        """What is measured outside the cases: where controls were asked, the drift on them and on ordinary text, and how
        well a router told what was asked apart.

        Args:
            baseline: The baseline's results.
        """
        routed = self._route_measures(baseline)
        controls = [row for row in baseline if row.test == "retention" and row.sample == 0]
        if not controls:
            return routed
        with suppress(UnsupportedError):
            measures = (self.reader.control_kl(controls), self.reader.perplexity())
            return (*routed, *(measure for measure in measures if measure is not None))
        return routed

    def sweep(self, questions: Sequence[Question]) -> tuple[SweepPoint, ...]:
        """Every checkpoint of the adapter on these questions; empty unless the settings ask for it.

        Raises:
            AdapterError: The adapter kept no checkpoints, or the bare model is the candidate.
        """
        if not self.settings.sweep:
            return ()
        if self.adapter is None:
            raise AdapterError("--engram-sweep: --engram-adapter=none has no checkpoints, expected an adapter")
        asked = [question for question in questions if question.test in SWEPT]
        return sweep(
            self.adapter, self.answer(asked, "baseline"), lambda each: self._answers_of(each, asked), self.run()
        )

    def _answers_of(self, adapter: Adapter, questions: Sequence[Question]) -> list[CaseResult]:
        """Results of another adapter as the candidate."""
        answerer = replace(
            self._answerer("candidate", adapter), open_generator=lambda: self.backend.load(self.model, adapter.path)
        )
        return answerer.answer(questions)

    @cached_property
    def reader(self) -> Reader:
        """Both sides, to be asked what they think of a given text."""
        return Reader(
            tokenizer=self.model.tokenizer,
            context_length=self.model.context_length,
            identity=self.identity_of,
            store=self.store,
            open_generator=self.open_generator,
            progress=self.progress,
        )

    def identity_of(self, side: Side) -> str:
        """Of everything that decides what a side says: weights, template, and the library that runs them."""
        adapter = self.adapter if side != "baseline" else None
        device = self.device
        return canonical_json(
            (
                self.model.fingerprint,
                self._answers_as(adapter),
                self.model.tokenizer.template_fingerprint,
                (device.backend, device.dtype, device.versions),
            )
        )

    def _answerer(self, side: Side, adapter: Adapter | None) -> Answerer:
        return Answerer(
            side=side,
            model=self.model,
            adapter=self._answers_as(adapter),
            device=self.device,
            store=self.store,
            open_generator=lambda: self.open_generator(side),
            progress=self.progress,
        )

    def open_generator(self, side: Side, *, is_timed: bool = False) -> Generator:
        """A loaded model for a side; the base weights are shared with the sides opened before.

        A router's decisions are stored unless the generator *is_timed*.
        """
        adapter = self.adapter if side != "baseline" else None
        generator = self.backend.load(self.model, adapter.path if adapter else None, fused=side == "fused")
        if adapter is None or self.settings.route == "always":
            return generator
        router = self._router_by(self._scorer) if is_timed else self.router
        return RoutedGenerator(generator, self.backend.load(self.model, None), router)

    @cached_property
    def router(self) -> Router:
        """What tells the trained questions from others; only with an adapter and a route."""
        from engram_bench.routing.scores import StoredScorer

        return self._router_by(StoredScorer(self._scorer, self.store, self.identity_of("baseline")))

    def _router_by(self, scorer: Scorer) -> Router:
        from engram_bench.routing.router import Router

        return Router(self.model.tokenizer, scorer, false_positives=self.settings.route_false_positives)

    @cached_property
    def _scorer(self) -> Scorer:
        from engram_bench.routing.scores import open_scorer

        assert self.adapter is not None
        return open_scorer(
            self.settings.route,
            self.model,
            [example.prompt for example in self.examples],
            backend=lambda: self.backend,
            folder=self.cache_dir if self.adapter.manifest.foreign else self.adapter.path,
        )

    def _route_measures(self, rows: Sequence[CaseResult]) -> tuple[Measure, ...]:
        from engram_bench.routing.scores import route_measures

        is_routed = self.settings.route != "always" and self.adapter is not None
        return route_measures(self.router, rows) if is_routed else ()

    def _answers_as(self, adapter: Adapter | None) -> str:
        """What the answers of a side depend on besides the base model: the adapter and when it is asked."""
        if adapter is None or self.settings.route == "always":
            return adapter.fingerprint if adapter else ""
        return f"{adapter.fingerprint}{self._routing} {self.router.fingerprint}"

    @property
    def _routing(self) -> str:
        return "" if self.settings.route == "always" else f", routed by {self.settings.route}"

    @property
    def has_forms(self) -> bool:
        """Whether there is an adapter here that could be fused or exported."""
        return self.settings.adapter != "none" and not self.is_served

    def answer_as(self, form: str, questions: Sequence[Question]) -> list[CaseResult]:
        """One scored result per question, in order, by the adapter in another form (``forms.FORMS``).

        Only where :attr:`has_forms`.

        Raises:
            AdapterError: The adapter is no plain LoRA.
        """
        adapter = self.adapter
        assert adapter is not None
        answerer = self._answerer("fused", adapter)
        own = replace(answerer, adapter=f"{adapter.fingerprint} {form}", open_generator=lambda: self._open_form(form))
        return own.answer(questions)

    def _open_form(self, form: str) -> Generator:
        assert self.adapter is not None
        if form not in self._forms:
            from engram_bench.inference.forms import open_form

            self._forms[form] = open_form(form, self.backend, self.model, self.adapter, Path(self._scratch.name))
        return self._forms[form]

    @cached_property
    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="engram-bench-")

    @cached_property
    def _forms(self) -> dict[str, Generator]:
        return {}

    def run(self) -> Run:
        """What is known here of this session's run: no rows yet, no name, command and start left to who calls."""
        return Run(
            name="",
            provenance=Provenance(
                model=self.model.reference,
                model_fingerprint=self.model.fingerprint,
                backend=self.device.backend,
                device=self.device.device,
                dtype=self.device.dtype,
                adapter=f"{self.adapter.name}{self._routing}" if self.adapter else "",
                commit=provenance.git_commit(),
                machine=provenance.machine(),
                command="",
                started="",
                versions={**provenance.library_versions(), **self.device.versions},
            ),
            training=self.adapter.manifest.training if self.adapter else None,
            timing=Timing(
                **{f"{stage}_s": self.seconds.get(stage, 0.0) for stage in ("train", "baseline", "candidate")}
            ),
        )

    def close(self) -> None:
        """Give models and stores back; nothing is loaded by closing."""
        for form in self.__dict__.pop("_forms", {}).values():
            form.close()
        for name in ("backend", "store"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        if "_scratch" in self.__dict__:
            self.__dict__.pop("_scratch").cleanup()


def finished(
    run: Run, results: Iterable[CaseResult], *, started: str, total_s: float, missing: Iterable[str] = ()
) -> Run:
    """The run of :meth:`Bench.run` with its rows, the command that asked for them, its start and its wall seconds."""
    return replace(
        run,
        provenance=replace(run.provenance, command=provenance.command_line(), started=started),
        results=tuple(results),
        timing=replace(run.timing, total_s=total_s),
        missing=tuple(sorted(set(missing))),
    )


def evaluate(bench: Bench) -> Run:
    """The run of the whole suite over the bench's sets: both sides asked everything, every answer scored.

    Raises:
        EngramBenchError: Something on the way failed; what was answered before is stored.
    """
    from engram_bench.session.plan import suite_questions

    started, clock = provenance.utc_now(), time.perf_counter()
    questions = {side: suite_questions(bench.sets, bench.settings, side) for side in COMPARED}
    answers = {side: bench.answer(questions[side], side) for side in COMPARED}
    measures, points = bench.measures(answers["baseline"]), bench.sweep(questions["candidate"])
    results = [row for rows in answers.values() for row in rows]
    run = replace(bench.run(), measures=measures, sweep=points)
    return finished(run, results, started=started, total_s=time.perf_counter() - clock)
