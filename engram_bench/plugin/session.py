"""One process's session: pattern files met, the plan, and the answers to all of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from engram_bench.errors import EngramBenchError, PatternFileError
from engram_bench.session.options import Settings

if TYPE_CHECKING:
    from engram_bench.inference.ask import Question
    from engram_bench.records import (
        CaseResult,
        Completion,
        GuardResult,
        Measure,
        Pattern,
        PatternSet,
        Prompt,
        Side,
        SweepPoint,
    )
    from engram_bench.session.bench import Bench
    from engram_bench.session.plan import Task, TaskGroup
    from engram_bench.speed.cases import SpeedCase
    from engram_bench.speed.lab import SpeedLab, SpeedTiming

T = TypeVar("T")
Key = tuple[str, str, int]


class BenchSession:
    """What the plugin knows in one process; heavy parts are made when first needed."""

    def __init__(self, config: pytest.Config, settings: Settings, started: float) -> None:
        self.config = config
        self.started = started
        self.settings = settings
        self.items: Sequence[pytest.Item] = ()
        """What was selected, once collection is over."""
        self._sets: dict[Path, PatternSet] = {}
        self._rows: dict[Side, dict[Key, CaseResult]] = {}
        self._failure: tuple[str, EngramBenchError] | None = None
        self._noted = False
        self._checked: tuple[str, ...] = ()

    # ── patterns ────────────────────────────────────────────────────────────────────────────────

    def is_pattern_file(self, path: Path, *, named: bool) -> bool:
        """Whether to collect *path*: *named* on the command line, or below a configured folder."""
        return named or any(path.is_relative_to(folder) for folder in self.settings.patterns)

    def load(self, path: Path) -> PatternSet:
        """The file's pattern set, read once.

        Raises:
            PatternFileError: The file has mistakes.
        """
        if path not in self._sets:
            from engram_bench import matchers
            from engram_bench.patterns.load import load_pattern_file

            self._sets[path] = load_pattern_file(path, root=self.config.rootpath, known_matchers=matchers.names())
        return self._sets[path]

    def check_across(self) -> None:
        """Check the files met so far, and those trained with them, against each other.

        Every file of a conflict is refused: under xdist files without an error would still be run.

        Raises:
            PatternFileError: A prompt has different answers in two files, or a held-out wording of one is trained on by
                another.
        """
        from engram_bench.patterns.load import check_across

        try:
            sets = self.training_sets()
        except EngramBenchError:
            return  # a file with mistakes of its own: they are reported where it is collected, or when it is needed
        paths = tuple(each.path for each in sets)
        if paths != self._checked:
            check_across(sets)
            self._checked = paths

    def training_sets(self) -> tuple[PatternSet, ...]:
        """The sets trained on: collected files, and all files of each configured folder a collected file is in.

        So selecting a part (``-k``, a node id, one file) neither changes the adapter nor trains another.
        """
        from engram_bench.patterns.load import find_pattern_files

        paths = set(self._sets)
        for folder in self.settings.patterns:
            if folder.is_dir() and any(path.is_relative_to(folder) for path in self._sets):
                paths.update(path for path in find_pattern_files([folder]))
        return tuple(self.load(path) for path in sorted(paths))

    def configured_patterns(self) -> list[tuple[str, Pattern]]:
        """Every pattern of the configured folders with its id, ``<file>/<pattern>``.

        Raises:
            PatternFileError: A file has mistakes.
        """
        from engram_bench.patterns.load import find_pattern_files

        existing = [path for path in self.settings.patterns if path.exists()]
        sets = [self.load(path) for path in find_pattern_files(existing)]
        return [
            (f"{Path(s.path).stem}/{pattern.id}", pattern) for s in sets if s.kind == "memory" for pattern in s.patterns
        ]

    # ── answers ─────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def bench(self) -> Bench:
        """Model, adapter and stores of this session."""
        from engram_bench.models import default_cache_dir
        from engram_bench.plugin.progress import terminal_progress
        from engram_bench.session.bench import Bench

        return Bench(
            self.settings,
            self.training_sets(),
            default_cache_dir(),
            progress=terminal_progress(self.config),
            started=self.started,
            session_dir=shared_folder(self.config),
        )

    def rows(self, task: Task, test: str) -> dict[Side, list[CaseResult]]:
        """Both sides' scored answers to a task of one of the suite's tests: a row per question.

        The first call answers all selected cases of both sides in a few batches.

        Raises:
            EngramBenchError: Something on the way failed; the same error for every case of the session.
        """
        from engram_bench.session.plan import SUITE

        asked = SUITE[test].questions(task, self.settings)
        rows = {side: [self._answers(side)[question.key] for question in asked] for side in SUITE[test].sides}
        if "baseline" in rows:
            self.measures, self.sweep  # noqa: B018  # here, where an error has a test to fail
        return rows

    def guard_result(self, task: Task) -> GuardResult:
        """What a sanity guard says over a file's seen prompts.

        Raises:
            EngramBenchError: Something on the way failed.
        """
        return self.bench.inspector().result(task, lambda: self.rows(task, "sanity")["candidate"])

    def asks_for(self, test: str) -> bool:
        """Whether the command line names this test: ``-m NAME`` or a node id."""
        names = [
            *re.findall(r"\w+", self.config.option.markexpr),
            *re.findall(r"test_(\w+)", " ".join(self.config.args)),
        ]
        return test in names

    def rows_as(self, form: str, task: Task, test: str) -> list[CaseResult]:
        """The same questions answered by the adapter in another form.

        Raises:
            EngramBenchError: Something on the way failed.
        """
        from engram_bench.session.plan import SUITE

        questions = SUITE[test].questions(task, self.settings)
        return self._guarded(lambda: self.bench.answer_as(form, questions))

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """What is measured outside the cases, on both sides' answers to all of them."""
        return self._guarded(lambda: self.bench.measures(list(self._answers("baseline").values())))

    @cached_property
    def sweep(self) -> tuple[SweepPoint, ...]:
        """Every checkpoint on the selected cases, where that is asked for."""
        return self._guarded(lambda: self.bench.sweep(self._plan("candidate")))

    def complete(self, prompt: Prompt, side: Side, max_tokens: int | None) -> Completion:
        """One side's greedy completion of any prompt; prompts of selected ``pattern`` tests were answered in the plan."""
        from engram_bench.session.plan import free_question

        question = free_question(prompt, self.settings, max_tokens)
        return self._guarded(lambda: self.bench.answer([question], side))[0].completion

    def _answers(self, side: Side) -> dict[Key, CaseResult]:
        if side not in self._rows:
            plan = self._plan(side)
            results = self._guarded(lambda: self.bench.answer(plan, side))
            self._rows[side] = {question.key: result for question, result in zip(plan, results, strict=True)}
        return self._rows[side]

    def _plan(self, side: Side) -> list[Question]:
        """The questions of every selected item to a side, each once."""
        from engram_bench.session.plan import SUITE

        questions: dict[Key, Question] = {}
        for item in self.items:
            test = SUITE.get(getattr(item, "originalname", "").removeprefix("test_"))
            if test is not None and side in test.sides:
                asked = (each for task in tasks_of(item) for each in test.questions(task, self.settings))
                questions.update((each.key, each) for each in asked)
        return list(questions.values())

    def _guarded(self, work: Callable[[], T]) -> T:
        """What *work* gives; a failure is remembered, so that the next case does not train or load again."""
        if self._failure is not None:
            test, error = self._failure
            msg = f"not answered: {type(error).__name__} at {test}, see there"
            raise EngramBenchError(msg) from error
        try:
            return work()
        except EngramBenchError as error:
            self._failure = (os.environ.get("PYTEST_CURRENT_TEST", "the first case").rpartition(" ")[0], error)
            raise

    def timing(self, pattern_set: PatternSet, case: SpeedCase) -> SpeedTiming:
        """One side of a speed test, loaded and ready.

        Raises:
            EngramBenchError: The model or adapter cannot be had (the same error for every case of the session), or a prompt
                exceeds the context.
        """
        self._guarded(lambda: self.bench.tuning.adapter)
        return self.lab.timing(pattern_set, case)

    @cached_property
    def lab(self) -> SpeedLab:
        """The loaded sides of the speed tests."""
        return self.bench.speed_lab()

    def notes(self) -> dict[str, Any]:
        """What this process knows about the run, in plain values: once, when both sides have answered or one was timed."""
        has_answered = self._rows.keys() >= {"baseline", "candidate"}
        if self._noted or not (has_answered or "lab" in self.__dict__):
            return {}
        from engram_bench.records.plain import to_plain

        self._noted = True
        run = self.bench.run()
        if has_answered:
            run = replace(run, measures=self.measures, sweep=self.sweep)
        plain: dict[str, Any] = to_plain(run)
        return plain

    @cached_property
    def leak_lines(self) -> list[str]:
        """Lines on the selected held-out wordings and the training examples; none where no such wording is selected.

        Raises:
            PatternFileError: A held-out wording is, normalised, the prompt of a training example; lists them all.
        """
        if not any(pattern.held_out for each in self._sets.values() for pattern in each.patterns):
            return []  # without a look at every case
        selected = {
            case.id for item in self.items for task in tasks_of(item) for case in task.cases if case.split == "held_out"
        }
        if not selected:
            return []
        from engram_bench.patterns.leaks import HeldOut

        held_out, examples = HeldOut(self.training_sets()), self.bench.tuning.examples
        if found := held_out.leaks(examples):
            raise PatternFileError("held-out wordings", [str(leak) for leak in found])
        near = [leak for leak in held_out.near_duplicates(examples) if leak.case_id in selected]
        lines = [
            f"engram-bench: none of {len(selected)} held-out wordings is among the {len(examples)} training examples, "
            f"{len(near) or 'none'} nearly is"
        ]
        return lines + [f"  near-duplicate: {leak}" for leak in near]

    # ── words ───────────────────────────────────────────────────────────────────────────────────

    def header(self) -> list[str]:
        """Lines of the report header; none in a project without pattern files."""
        if not any(path.exists() for path in self.settings.patterns):
            return []
        from engram_bench.backends.registry import choose_backend, is_evaluation_only

        settings = self.settings
        backend, reason = choose_backend(settings.backend)
        asked = f"model {settings.model}, adapter {settings.adapter}"
        if is_evaluation_only(backend):
            asked = f"{settings.server_url}: {settings.candidate_model} against {settings.baseline_model}"
        without = f", without {', '.join(settings.plain)}" if settings.plain else ""
        return [f"engram-bench: backend {backend} ({reason}), {asked}{without}"]

    def close(self) -> None:
        """Give models and stores back."""
        for name in ("lab", "bench"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()


def shared_folder(config: pytest.Config) -> Path | None:
    """The folder that xdist's controller gave its workers; None in any other process."""
    given = getattr(config, "workerinput", {}).get("engram_folder")
    return Path(given) if given else None


def about(item: pytest.Item) -> Task | TaskGroup | None:
    """What a test of the suite is parametrized with; None for any other test."""
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    found: Task | TaskGroup | None = params.get("engram_task")
    return found


def tasks_of(item: pytest.Item) -> tuple[Task, ...]:
    """The tasks that a test of the suite judges; none of any other test."""
    found = about(item)
    return found.tasks if found is not None else ()
