"""Matchers by name: those shipped, those registered here, those other packages bring as entry points."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from engram_bench.errors import UsageError
from engram_bench.matchers import dates, number, source, text
from engram_bench.matchers.protocol import Matcher, UnusableAnswer, miss, shown
from engram_bench.records import Score
from engram_bench.records.reasoning import NO_ANSWER, has_marks, split_reasoning

GROUP = "engram_bench.matchers"
"""Entry-point group: the name a pattern file uses → a :data:`~engram_bench.matchers.protocol.Matcher`."""

MAX_CHARACTERS = 16_384
"""Longest completion that is compared; a longer one is a miss. Sorting 16,000 stacked accents already takes 0.2 s."""

SHIPPED: Mapping[str, Matcher] = MappingProxyType(
    {
        "exact": text.exact,
        "strict": text.strict,
        "prefix": text.prefix,
        "contains": text.contains,
        "regex": text.regex,
        "python": source.python,
        "json": source.json,
        "number": number.number,
        "date": dates.date,
    }
)

_registered: dict[str, Matcher] = {}


def names() -> tuple[str, ...]:
    """Every name that :func:`match` accepts: shipped matchers first, then others in alphabetical order. None is imported."""
    return (*SHIPPED, *sorted({*_registered, *_entry_points()} - {*SHIPPED}))


def register(name: str, matcher: Matcher) -> None:
    """Register a matcher for ``match: NAME`` of pattern files, in this process, usually in a ``conftest.py``.

    Registering the same matcher twice is allowed.

    Args:
        name: Name that pattern files use.
        matcher: Function of the completion's text and one accepted answer. True passes, False is a miss, a text is a miss
            with that reason, and a :class:`~engram_bench.Score` counts as it is. An exception makes the case *not scored*.

    Raises:
        UsageError: The name is taken by another matcher.
    """
    taken = SHIPPED.get(name) or _registered.get(name)
    if taken not in (None, matcher):
        message = f"matcher {name!r} is already registered, expected a new name besides {', '.join(names())}"
        raise UsageError(message)
    _registered[name] = matcher


def match(name: str, completion_text: str, answers: Sequence[str]) -> Score:
    """The score of a completion: whether it gives one of the accepted answers.

    The text outside the completion's reasoning (``<think>…</think>`` and similar marks) is judged; reasoning without an end
    leaves no answer, which is a miss. Where an accepted answer contains such marks itself, the whole text is judged.

    Args:
        name: Name of the matcher, as in ``match: NAME`` of a pattern file.
        completion_text: Text of the completion.
        answers: Accepted answers, the preferred one first. Their order never changes the outcome.

    Returns:
        *Passed* where one answer matches. Else *not scored* where the matcher crashed or could not compare an answer, or
        where there are no answers. Else *failed*, with the reason of the preferred answer.

    Raises:
        UsageError: No matcher has this name.
    """
    if name not in names():
        hint = "".join(f" (did you mean {close!r}?)" for close in difflib.get_close_matches(name, names(), n=1))
        message = f"matcher {shown(name)} is unknown, expected one of {', '.join(names())}{hint}"
        raise UsageError(message)
    if not answers:
        return Score("not_scored", "the case has no accepted answer to compare with")
    if len(completion_text) > MAX_CHARACTERS:
        return Score("failed", f"found {len(completion_text)} characters, expected at most {MAX_CHARACTERS}")
    if not any(map(has_marks, answers)):
        spoken = split_reasoning(completion_text).answer
        if spoken is None:
            return Score("failed", f"{NO_ANSWER}: {shown(completion_text)}")
        completion_text = spoken
    missed: list[Score] = []
    for answer in answers:
        score = _compare(name, completion_text, answer)
        if score.passed:
            return score
        missed.append(score)
    score = next((score for score in missed if score.outcome == "not_scored"), missed[0])
    others = (
        f" (nor any of {len(answers) - 1} other accepted)" if len(answers) > 1 and score.outcome == "failed" else ""
    )
    return Score(score.outcome, score.reason + others)


def answer_problem(name: str, answer: str) -> str | None:
    """Why no completion can match this answer (blank, a broken regex, not JSON); None where there is no such reason.

    Only shipped matchers check an answer; other matchers may be slow to load, and report the reason when they run.
    """
    try:
        _ask(SHIPPED.get(name, text.exact), "", answer)
    except UnusableAnswer as error:
        return str(error)
    return None


def _compare(name: str, completion_text: str, answer: str) -> Score:
    """The score of one answer; an error in the matcher, or in loading it, gives *not scored*."""
    try:
        said = _ask(_find(name), completion_text, answer)
    except UnusableAnswer as error:
        return Score("not_scored", f"matcher {name!r}: {error}")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Score("not_scored", f"matcher {name!r} crashed at {where.filename}:{where.lineno}: {error!r:.200}")
    match said:
        case Score():
            return said
        case True:
            return Score("passed")
        case False | "":
            return Score("failed", miss(completion_text, shown(answer)))
        case str():
            return Score("failed", said)
    return Score("not_scored", f"matcher {name!r} returned {said!r:.60}, expected a bool, a reason or a Score")


def _ask(matcher: Matcher, completion_text: str, answer: str) -> bool | str | Score:
    if not answer.strip():  # which any silence would match
        message = f"answer is {shown(answer)}, expected at least one character besides whitespace"
        raise UnusableAnswer(message)
    return matcher(completion_text, answer)


def _find(name: str) -> Matcher:
    if matcher := SHIPPED.get(name) or _registered.get(name):
        return matcher
    loaded: Matcher = _entry_points()[name].load()
    return loaded


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
