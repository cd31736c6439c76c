"""What the suite asks: which cases each test has in a pattern file, and which questions a case puts to both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from engram_bench.evaluate import Question, with_limit
from engram_bench.options import Settings
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.records import Case, GenerationSettings, PatternSet, Prompt, SourceLine


def greedy_question(case: Case, settings: Settings, *, test: str) -> tuple[Question, ...]:
    """The case as it stands, answered greedily under the session's limits."""
    greedy = GenerationSettings(max_tokens=settings.max_tokens, seed=settings.seed)
    return (Question(case, test, with_limit(greedy, case)),)


@dataclass(frozen=True, slots=True)
class SuiteTest:
    """One test of the suite, as ``test_NAME`` and marker ``NAME``."""

    name: str
    cases: Callable[[PatternSet], Iterable[Case]]
    """Cases of a file; none if the file's kind has none of this test."""

    def questions(self, case: Case, settings: Settings) -> tuple[Question, ...]:
        """What is asked to judge one case; both sides are asked the same."""
        return greedy_question(case, settings, test=self.name)


SUITE: dict[str, SuiteTest] = {test.name: test for test in (SuiteTest("accuracy", accuracy_cases),)}


def free_question(prompt: Prompt, settings: Settings, max_tokens: int | None = None) -> Question:
    """A greedy question that no pattern asks: a prompt of a user's own test."""
    case = Case(
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
    return greedy_question(case, settings, test="free")[0]
