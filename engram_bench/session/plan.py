"""The plan of a session: the tasks that each test of the suite has in a pattern file, and the questions of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from engram_bench.inference.ask import Question, with_limit
from engram_bench.patterns.expand import accuracy_cases, generalization_cases, retention_cases, wording_cases
from engram_bench.records import Case, GenerationSettings, Pattern, PatternSet, Prompt, Side, SourceLine
from engram_bench.scoring.guards import GUARDS, OPT_IN
from engram_bench.session.options import Settings


@dataclass(frozen=True, slots=True)
class Task:
    """One or more cases that a test of the suite judges together."""

    name: str
    """Name in the node id: ``test_accuracy[NAME]``."""
    cases: tuple[Case, ...]
    """Cases that are asked, at least one; the first is the case that the task is about."""
    min_share: float = 1.0
    """Smallest share of *cases* that must be correct, 0..1."""

    @property
    def case(self) -> Case:
        """The case that the task is about."""
        return self.cases[0]

    @property
    def source(self) -> SourceLine:
        """File and line of the pattern."""
        return self.case.source

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of an item that has this task alone."""
        return (self,)


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """All tasks of a category in a file as one item: ``--engram-items=category``."""

    name: str
    """The category, which is the name in the node id: ``test_accuracy[NAME]``."""
    patterns: PatternSet
    """The file with the patterns of this category only, at least one."""
    settings: Settings
    list_tasks: Callable[[PatternSet, Settings], Iterable[Task]]

    @property
    def source(self) -> SourceLine:
        """File and line of the first pattern."""
        return self.patterns.patterns[0].source

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the group, made at every call: stored, the tasks of 100,000 patterns would fill the memory."""
        return tuple(self.list_tasks(self.patterns, self.settings))

    @property
    def has_tasks(self) -> bool:
        """Whether the test has anything to ask in this category."""
        return any(True for _ in self.list_tasks(self.patterns, self.settings))


def greedy(settings: Settings) -> GenerationSettings:
    """How a question is answered greedily whose pattern sets no limit."""
    return GenerationSettings(
        settings.max_tokens, seed=settings.asked_seed, max_reasoning_tokens=settings.max_reasoning_tokens
    )


def greedy_questions(test: str, task: Task, settings: Settings) -> tuple[Question, ...]:
    """A question per case of the task, to be answered greedily under the session's limits."""
    return tuple(Question(case, test, with_limit(greedy(settings), case)) for case in task.cases)


def repeated_questions(test: str, task: Task, settings: Settings) -> tuple[Question, ...]:
    """The greedy questions (sample 0), and the first case ``settings.samples`` times more, to be sampled (samples 1 and up)."""
    drawn = (
        replace(greedy(settings), temperature=settings.temperature, sample=sample)
        for sample in range(1, settings.samples + 1)
    )
    repeats = (Question(task.case, test, with_limit(draw, task.case)) for draw in drawn)
    return (*greedy_questions(test, task, settings), *repeats)


@dataclass(frozen=True, slots=True)
class SuiteTest:
    """One test of the suite, as ``test_NAME`` and marker ``NAME``."""

    name: str
    list_tasks: Callable[[PatternSet, Settings], Iterable[Task]]
    """Gives the tasks of a file; none where the test does not apply to the file's kind."""
    ask: Callable[[str, Task, Settings], tuple[Question, ...]] = greedy_questions
    sides: tuple[Side, ...] = ("baseline", "candidate")
    """Sides that are asked."""
    is_opt_in: bool = False
    """Whether the test is collected only where the marker (``-m NAME``) or the node id asks for it."""

    @property
    def is_compared(self) -> bool:
        """Whether rows of this test have a counterpart on the other side."""
        return len(self.sides) > 1

    def tasks(self, pattern_set: PatternSet, settings: Settings) -> list[Task]:
        """The tasks of a file's first ``settings.limit`` patterns, and of every required pattern."""
        return list(self.list_tasks(_limited(pattern_set, settings), settings))

    def items(self, pattern_set: PatternSet, settings: Settings) -> Sequence[Task | TaskGroup]:
        """The items of a file: a task each, or with ``settings.items`` the tasks of a category each.

        A task about a whole file stays an item of its own.
        """
        if settings.items == "pattern" or not self.is_compared:
            return self.tasks(pattern_set, settings)
        categories: dict[str, list[Pattern]] = {}
        for pattern in _limited(pattern_set, settings).patterns:
            categories.setdefault(pattern.category, []).append(pattern)
        groups = [
            TaskGroup(name, replace(pattern_set, patterns=tuple(patterns)), settings, self.list_tasks)
            for name, patterns in categories.items()
        ]
        return [group for group in groups if group.has_tasks]

    def questions(self, task: Task, settings: Settings) -> tuple[Question, ...]:
        """The questions that judge a task, the same for every side."""
        return self.ask(self.name, task, settings)


def _limited(pattern_set: PatternSet, settings: Settings) -> PatternSet:
    """The first patterns of a set, within the settings' limit, and every required one after them."""
    limit = len(pattern_set.patterns) if settings.limit is None else settings.limit
    required = (pattern for pattern in pattern_set.patterns[limit:] if pattern.required)
    return replace(pattern_set, patterns=(*pattern_set.patterns[:limit], *required))


def _one_each(cases: Callable[[PatternSet], Iterable[Case]]) -> Callable[[PatternSet, Settings], Iterable[Task]]:
    """A task per case, named by the part of the case's id after the file's name."""
    return lambda pattern_set, _: (Task(case.id.partition("/")[2], (case,)) for case in cases(pattern_set))


def _consistency_tasks(pattern_set: PatternSet, _: Settings) -> Iterable[Task]:
    """A task per pattern over all its wordings, trained or held out."""
    if pattern_set.kind == "memory":
        for pattern in pattern_set.patterns:
            yield Task(pattern.id, wording_cases(pattern), pattern.min_consistency)


def _sanity_tasks(pattern_set: PatternSet, settings: Settings) -> Iterable[Task]:
    """A task per guard, over all seen prompts."""
    if cases := tuple(accuracy_cases(pattern_set)):
        yield from (Task(name, cases) for name in GUARDS if settings.null_control or name not in OPT_IN)


def _parity_tasks(pattern_set: PatternSet, settings: Settings) -> Iterable[Task]:
    """A task per form, over all prompts of the file as written."""
    if cases := tuple(accuracy_cases(pattern_set)):
        yield from (Task(form, cases) for form in PARITY_FORMS)


PARITY_FORMS = ("fused", "merged", "mlx")
"""Forms that the attached adapter is compared with; see ``forms.FORMS``."""

SUITE: dict[str, SuiteTest] = {
    test.name: test
    for test in (
        SuiteTest("accuracy", _one_each(accuracy_cases)),
        SuiteTest("generalization", _one_each(generalization_cases)),
        SuiteTest("consistency", _consistency_tasks, repeated_questions),
        SuiteTest("retention", _one_each(retention_cases)),
        SuiteTest("sanity", _sanity_tasks, sides=("candidate",)),
        SuiteTest("parity", _parity_tasks, sides=("candidate",), is_opt_in=True),
    )
}
"""Every test of the suite by name; nothing else decides which questions a pattern file leads to."""


def suite_questions(sets: Iterable[PatternSet], settings: Settings, side: Side) -> list[Question]:
    """The questions of these sets by which the suite compares the sides, within the settings' limit of patterns per file."""
    return [
        question
        for pattern_set in sets
        for test in SUITE.values()
        if test.is_compared and side in test.sides
        for task in test.tasks(pattern_set, settings)
        for question in test.questions(task, settings)
    ]


def free_question(prompt: Prompt, settings: Settings, max_tokens: int | None = None) -> Question:
    """A greedy question for a prompt of a user's own test."""
    return greedy_questions("free", Task("", (free_case(prompt, max_tokens),)), settings)[0]


def free_case(prompt: Prompt, max_tokens: int | None = None) -> Case:
    """A case of a prompt that belongs to no pattern; any answer passes."""
    return Case(
        id="",
        pattern_id="",
        set_name="",
        prompt=prompt,
        answers=(),
        match="exact",
        split="seen",
        category="",
        source=SourceLine("", 0),
        max_tokens=max_tokens,
    )
