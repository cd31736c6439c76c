"""The sanity guards applied to a session's adapter, from stored answers wherever these are enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from engram_bench.errors import UnsupportedError
from engram_bench.inference.ask import Question, apart, limited
from engram_bench.records import CaseResult, GuardResult, PatternSet, Run, Side
from engram_bench.records.plain import canonical_json
from engram_bench.session.engine import Engine
from engram_bench.session.guards import CHECKS, Inspected
from engram_bench.session.plan import SUITE, Task, greedy, greedy_questions
from engram_bench.session.respondents import Respondents
from engram_bench.session.tuning import Tuning

Ask = Callable[[Sequence[Question], Side], Sequence[CaseResult]]
"""Gives one scored result per question from a side of the session."""


@dataclass(frozen=True)
class Inspector:
    """Applies the guards to the adapter of a session."""

    engine: Engine
    tuning: Tuning
    respondents: Respondents
    ask: Ask
    run: Callable[[], Run]
    """Gives a run with the session's provenance, for gates that are judged on trial."""

    def result(self, task: Task, answers: Callable[[], Sequence[CaseResult]]) -> GuardResult:
        """What the guard of a sanity task finds; only for a session with an adapter.

        Args:
            task: A task of ``plan.SUITE["sanity"]``.
            answers: Function that gives the candidate's greedy answers to the task's cases.

        Raises:
            EngramBenchError: The adapter cannot be had, or an answer that the guard needs failed.
        """
        try:
            reason = CHECKS[task.name](self._inspected(task, answers))
        except UnsupportedError as error:
            return GuardResult(task.name, task.case.set_name, "not_told", str(error))
        return GuardResult(task.name, task.case.set_name, "broken" if reason else "holds", reason)

    def results(self, sets: Iterable[PatternSet]) -> tuple[GuardResult, ...]:
        """Every guard of the session over every memory file; empty where the bare model is the candidate.

        Raises:
            EngramBenchError: As :meth:`result`.
        """
        if self.tuning.adapter is None:
            return ()
        suite, settings = SUITE["sanity"], self.engine.settings
        tasks = [task for pattern_set in sets for task in suite.tasks(pattern_set, settings)]
        return tuple(
            self.result(task, partial(self.ask, suite.questions(task, settings), "candidate")) for task in tasks
        )

    def _inspected(self, task: Task, answers: Callable[[], Sequence[CaseResult]]) -> Inspected:
        tuning, engine = self.tuning, self.engine
        assert tuning.adapter is not None  # the guards are skipped without one
        return Inspected(
            model=engine.model,
            adapter=tuning.adapter,
            examples=tuning.examples if engine.settings.adapter == "auto" else (),
            cases=task.cases,
            answers=answers,
            largest_change=self._largest_change,
            alone=lambda rows: [self._alone(row) for row in rows],
            null_verdicts=lambda: self._null_verdicts(task),
        )

    def _largest_change(self, prompts: Sequence[Sequence[int]]) -> float:
        sides = self.respondents.of("baseline"), self.respondents.of("candidate")
        return self.engine.likelihoods.largest_change(*sides, prompts)

    def _alone(self, row: CaseResult) -> str:
        """The candidate's answer to a prompt that is asked alone; an answer equal to the row's is stored as such."""
        engine, candidate = self.engine, self.respondents.of("candidate")
        settings = limited(row.case, greedy(engine.settings), engine.model).settings
        parts = ("alone", candidate.identity, row.case.prompt, settings, row.completion.text)
        key = sha256(canonical_json(parts).encode()).hexdigest()
        if engine.store.get_figures([key]):
            return row.completion.text
        with engine.store.lock(candidate.identity):
            (completion,) = candidate.open().complete([row.case.prompt], settings)
        answer = apart(completion, row.case, engine.model).text
        if answer == row.completion.text:
            engine.store.put_figures({key: [1.0]})
        return answer

    def _null_verdicts(self, task: Task) -> list[str]:
        """The accuracy gates that an untrained adapter meets, and those that one of random weights meets."""
        from engram_bench.session.null_control import gates_met, random_copy  # numpy, for a guard that few ask for

        adapter, settings = self.tuning.adapter, self.engine.settings
        assert adapter is not None
        questions = [*greedy_questions("accuracy", task, settings)]
        meets = partial(gates_met, self.engine, self.ask(questions, "baseline"), questions, self.run())
        untrained = self.tuning.untrained()
        found = [
            f"{gate} (untrained)" for gate in meets(self.respondents.adapted(untrained.path, untrained.fingerprint))
        ]
        with random_copy(adapter) as path:
            random = self.respondents.adapted(path, f"{adapter.fingerprint} random")
            return [*found, *(f"{gate} (random weights)" for gate in meets(random))]
