"""Cases → scored answers: questions without a stored completion are asked in a few batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING

from engram_bench.backends.protocol import Generator
from engram_bench.errors import PatternFileError
from engram_bench.inference.respondent import Respondent
from engram_bench.inference.store import CompletionStore
from engram_bench.matchers import match
from engram_bench.patterns.limits import answer_limit
from engram_bench.records import Case, CaseResult, Completion, GenerationSettings, Prompt, Score, Side
from engram_bench.records.reasoning import NO_ANSWER, has_marks, reasoning_end, split_reasoning
from engram_bench.system.progress import Progress, no_progress

if TYPE_CHECKING:
    from engram_bench.models import Model

CHUNK = 256
"""Prompts per call of a generator. Completions are stored after each call, so an interrupted session loses at most one call."""


@dataclass(frozen=True, slots=True)
class Question:
    """A case with the test that asks and the generation settings, which hold the number of the sample."""

    case: Case
    test: str = "accuracy"
    settings: GenerationSettings = field(default_factory=GenerationSettings)

    @property
    def key(self) -> tuple[str, str, int]:
        """Identity within one side of a run: case, test and sample."""
        return (self.case.id, self.test, self.settings.sample)


@dataclass(frozen=True, slots=True)
class Answerer:
    """A respondent behind a store of the completions that were computed before."""

    respondent: Respondent
    store: CompletionStore
    progress: Progress = no_progress

    def answer(self, questions: Sequence[Question], side: Side) -> list[CaseResult]:
        """One scored result per question, in order, as results of *side*.

        Two questions with the same prompt and the same settings are asked once.

        Raises:
            PatternFileError: A prompt with its answer limit exceeds the model's context.
            BackendError: The backend failed; completions from before the failure are stored.
        """
        model = self.respondent.model
        questions = [fitted(question, model) for question in questions]
        prompts = {question.case.prompt: model.tokenizer.encode_prompt(question.case.prompt) for question in questions}
        check_lengths(questions, prompts, model.context_length)
        keys = [self.respondent.key(prompts[question.case.prompt], question.settings) for question in questions]
        found = self.store.get_many(keys)
        missing = {key: question for key, question in zip(keys, questions, strict=True) if key not in found}
        if missing:
            found |= self._complete(missing, side)
        pairs = zip(questions, keys, strict=True)
        return [_result(question, found[key], side, model) for question, key in pairs]

    def _complete(self, missing: dict[str, Question], side: Side) -> dict[str, Completion]:
        """The missing completions, asked for under the store's lock: a process that waited finds them stored."""
        found: dict[str, Completion] = {}
        with self.store.lock(self.respondent.lock_name):
            found |= self.store.get_many(list(missing))
            left = {key: question for key, question in missing.items() if key not in found}
            if not left:
                return found
            generator = self.respondent.open()
            done = 0
            for chunk in _chunks(left.items()):
                answers = _ask(generator, chunk)
                self.store.put_many(answers)
                found |= answers
                done += len(chunk)
                self.progress("answer", done, len(left), side)
        return found


def _ask(generator: Generator, chunk: Sequence[tuple[str, Question]]) -> dict[str, Completion]:
    """The completions of questions that share their settings, by key; expected answers serve as drafts."""
    questions = [question for _, question in chunk]
    completions = generator.complete(
        [question.case.prompt for question in questions],
        questions[0].settings,
        drafts=[question.case.answers[0] if question.case.answers else None for question in questions],
    )
    return {key: completion for (key, _), completion in zip(chunk, completions, strict=True)}


def _result(question: Question, completion: Completion, side: Side, model: Model) -> CaseResult:
    return CaseResult(
        case=question.case,
        side=side,
        completion=apart(completion, question.case, model),
        score=judge(question.case, completion),
        test=question.test,
        sample=question.settings.sample,
    )


def judge(case: Case, completion: Completion) -> Score:
    """The score of a completion; any completion passes a case without an answer, where only agreement is measured."""
    if not case.answers:
        return Score("passed", "no answer to compare with")
    score = match(case.match, completion.text, case.answers)
    if completion.stop_reason == "length" and score.reason.startswith(NO_ANSWER):
        return replace(score, reason=f"{score.reason}; max-reasoning-tokens gives reasoning a limit of its own")
    return score


def apart(completion: Completion, case: Case, model: Model) -> Completion:
    """The completion with the model's reasoning apart from its answer, which is empty where the reasoning has no end.

    A completion without reasoning stays as it is, and so does any completion of a case whose accepted answers hold marks of
    reasoning themselves.
    """
    if not has_marks(completion.text) or any(map(has_marks, case.answers)):
        return completion
    answer, reasoning = split_reasoning(completion.text)
    tokens = completion.reasoning_tokens
    if not tokens and model.tokenizer.stop_ids:  # a server's tokenizer is unknown: it counts itself, or nobody does
        said = completion.text if answer is None else completion.text[: reasoning_end(completion.text)]
        tokens = min(completion.completion_tokens, len(model.tokenizer.encode(said)))
    return replace(completion, text=answer or "", reasoning=reasoning, reasoning_tokens=tokens)


def check_lengths(questions: Iterable[Question], prompts: Mapping[Prompt, Sequence[int]], context_length: int) -> None:
    """Check that every prompt with its answer fits into the context, before the model is asked.

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


def check_room(cases: Iterable[Case], max_tokens: int, model: Model) -> None:
    """Check that every prompt with its answer fits into the context; only long prompts are encoded.

    Args:
        cases: Cases that may be asked.
        max_tokens: Limit of the session.
        model: Model whose context counts.

    Raises:
        PatternFileError: As :func:`check_lengths`.
    """
    around: dict[str | None, int] = {}
    long: list[Question] = []
    for case in cases:
        system = case.prompt.system
        if system not in around:
            around[system] = len(model.tokenizer.encode_prompt(Prompt("?", system)))
        question = limited(case, GenerationSettings(max_tokens), model)
        size = around[system] + len(case.prompt.user.encode("utf-8", "replace"))  # no token is shorter than a byte
        if size + question.settings.max_tokens > model.context_length:
            long.append(question)
    prompts = {question.case.prompt: model.tokenizer.encode_prompt(question.case.prompt) for question in long}
    check_lengths(long, prompts, model.context_length)


def fitted(question: Question, model: Model) -> Question:
    """The question with a limit that holds its longest accepted answer, unless the pattern file sets the limit."""
    case, settings = question.case, question.settings
    if case.max_tokens is not None or not case.answers:
        return question
    limit = answer_limit(case.answers, settings.max_tokens, model.tokenizer)
    return question if limit == settings.max_tokens else replace(question, settings=replace(settings, max_tokens=limit))


def limited(case: Case, settings: GenerationSettings, model: Model) -> Question:
    """The question of a case under the session's settings, with the limit that the case has or needs."""
    return fitted(Question(case, settings=with_limit(settings, case)), model)


def with_limit(settings: GenerationSettings, case: Case) -> GenerationSettings:
    """The session's settings with the case's own answer limit where it has one."""
    return replace(settings, max_tokens=case.max_tokens) if case.max_tokens else settings


def _chunks(items: Iterable[tuple[str, Question]]) -> Iterable[list[tuple[str, Question]]]:
    """Lists of at most CHUNK questions that share their generation settings."""
    ordered = sorted(items, key=lambda item: repr(item[1].settings))
    for _, group in groupby(ordered, key=lambda item: item[1].settings):
        rows = list(group)
        yield from (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
