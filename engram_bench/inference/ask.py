"""Cases → scored answers: what the completion store does not have is asked in a few batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from engram_bench.backends.protocol import Generator
from engram_bench.errors import PatternFileError
from engram_bench.inference.store import CompletionStore, completion_key
from engram_bench.matchers import match
from engram_bench.records import Case, CaseResult, Completion, DeviceInfo, GenerationSettings, Prompt, Score, Side
from engram_bench.records.plain import canonical_json
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model

CHUNK = 256
"""Prompts per call of a generator: answers are stored after each, so that an interrupted session loses at most one."""


@dataclass(frozen=True, slots=True)
class Question:
    """A case put to a side by one of the suite's tests, as the n-th sample."""

    case: Case
    test: str = "accuracy"
    settings: GenerationSettings = field(default_factory=GenerationSettings)

    @property
    def key(self) -> tuple[str, str, int]:
        """Identity within one side of a run."""
        return (self.case.id, self.test, self.settings.sample)


@dataclass(frozen=True, slots=True)
class Answerer:
    """One side: who answers, and under which name its answers are stored."""

    side: Side
    model: Model
    adapter: str
    """Content fingerprint of the adapter; empty for the bare model."""
    device: DeviceInfo
    store: CompletionStore
    open_generator: Callable[[], Generator]
    """Loads the model; called only when an answer is missing from the store."""
    progress: Progress = no_progress

    def answer(self, questions: Sequence[Question]) -> list[CaseResult]:
        """One scored result per question, in order.

        The same prompt under the same settings is asked once, whoever asks.

        Raises:
            PatternFileError: A prompt with its answer limit exceeds the model's context.
            BackendError: The backend failed; what was answered before is stored.
        """
        prompts = {
            question.case.prompt: self.model.tokenizer.encode_prompt(question.case.prompt) for question in questions
        }
        check_lengths(questions, prompts, self.model.context_length)
        keys = [self._key(question, prompts[question.case.prompt]) for question in questions]
        found = self.store.get_many(keys)
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in found}
        if missing:
            found |= self._complete(missing)
        return [self._result(question, found[key]) for key, question in zip(keys, questions, strict=True)]

    def _result(self, question: Question, completion: Completion) -> CaseResult:
        return CaseResult(
            case=question.case,
            side=self.side,
            completion=completion,
            score=judge(question.case, completion),
            test=question.test,
            sample=question.settings.sample,
        )

    def _key(self, question: Question, prompt_tokens: Sequence[int]) -> str:
        return completion_key(
            model=self.model.fingerprint,
            adapter=self.adapter,
            template=self.model.tokenizer.template_fingerprint,
            backend=self.device.backend,
            dtype=self.device.dtype,
            prompt_tokens=prompt_tokens,
            settings=question.settings,
            version=canonical_json(self.device.versions),
        )

    def _complete(self, missing: dict[str, Question]) -> dict[str, Completion]:
        """Ask under the store's lock: a process that waited for it finds the answers of the one that asked."""
        found: dict[str, Completion] = {}
        with self.store.lock(f"{self.model.fingerprint}/{self.adapter}/{self.device.backend}"):
            found |= self.store.get_many(list(missing))
            left = {key: question for key, question in missing.items() if key not in found}
            if not left:
                return found
            generator = self.open_generator()
            done = 0
            for chunk in _chunks(left.items()):
                answers = self._ask(generator, chunk)
                self.store.put_many(answers)
                found |= answers
                done += len(chunk)
                self.progress("answer", done, len(left), self.side)
        return found

    def _ask(self, generator: Generator, chunk: Sequence[tuple[str, Question]]) -> dict[str, Completion]:
        questions = [question for _, question in chunk]
        completions = generator.complete(
            [question.case.prompt for question in questions],
            questions[0].settings,
            drafts=[question.case.answers[0] if question.case.answers else None for question in questions],
        )
        return {key: completion for (key, _), completion in zip(chunk, completions, strict=True)}


def judge(case: Case, completion: Completion) -> Score:
    """The score of a completion; a case without an answer is passed by any completion (only agreement is measured)."""
    if not case.answers:
        return Score("passed", "no answer to compare with")
    return match(case.match, completion.text, case.answers)


def check_lengths(questions: Iterable[Question], prompts: Mapping[Prompt, Sequence[int]], context_length: int) -> None:
    """Refuse prompts that do not fit, before anything is asked.

    Raises:
        PatternFileError: Lists the patterns of one file whose prompt plus answer limit exceeds the context.
    """
    too_long: dict[str, list[str]] = {}
    for question in questions:
        tokens = len(prompts[question.case.prompt])
        if tokens + question.settings.max_tokens > context_length:
            source = question.case.source
            too_long.setdefault(source.path, []).append(
                f"line {source.line}: pattern {question.case.pattern_id!r}: prompt of {tokens} tokens + "
                f"{question.settings.max_tokens} for the answer, expected at most {context_length} together"
            )
    for path, mistakes in too_long.items():
        raise PatternFileError(path, mistakes)


def with_limit(settings: GenerationSettings, case: Case) -> GenerationSettings:
    """The session's settings with the case's own answer limit where it has one."""
    return replace(settings, max_tokens=case.max_tokens) if case.max_tokens else settings


def _chunks(items: Iterable[tuple[str, Question]]) -> Iterable[list[tuple[str, Question]]]:
    """Runs of at most CHUNK questions that share their generation settings."""
    ordered = sorted(items, key=lambda item: repr(item[1].settings))
    for _, group in groupby(ordered, key=lambda item: item[1].settings):
        rows = list(group)
        yield from (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
