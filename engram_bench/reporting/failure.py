"""Texts that a failing case shows."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from engram_bench.door import printable, printable_lines
from engram_bench.records import Case, CaseResult, Completion, Score

MAX_LINES = 20
"""Largest number of lines shown of a text."""
MAX_MISSES = 20
"""Largest number of misses shown of a category; the report lists all of them."""
MAX_CHARS = 200
"""Largest number of characters per line: a model that never stops must not fill the screen, and diffs take time squared."""


def failure_text(case: Case, baseline: Completion | None, candidate: Completion | None, score: Score) -> str:
    """The reason of a miss, the pattern's line, the prompt, the accepted answers, both sides' answers, and a diff.

    Args:
        case: The case that failed.
        baseline: The bare model's answer; None where there is none.
        candidate: The tuned model's answer; None where there is none.
        score: Score of the candidate's answer.

    Returns:
        Lines without a final newline. The reason comes first, because pytest's summary shows only that line. The diff
        compares with the preferred answer; there is none where no answer is expected, no answer came, or both texts look
        the same. Control characters are written out.
    """
    texts = [("prompt", case.prompt.user)]
    if case.prompt.system is not None:
        texts.insert(0, ("system", case.prompt.system))
    texts += [("expected" if not index else "or", answer) for index, answer in enumerate(case.answers)]
    reason = score.reason or "failed"
    if score.outcome == "not_scored":
        reason = f"not scored: {score.reason}"
    lines = [
        printable(reason, MAX_CHARS),
        f"{_where(case)} ({printable(case.match, MAX_CHARS)})",
    ]
    for heading, text in texts:
        lines += _labelled(heading, text)
    for heading, completion in (("baseline", baseline), ("candidate", candidate)):
        lines += _answer(heading, completion)
    if case.answers and candidate is not None:
        lines += _diff(case.answers[0], candidate.text)
    return "\n".join(lines)


def misses_text(what: str, texts: Sequence[str], missed: int) -> str:
    """The misses of a category.

    Args:
        what: First line; pytest's summary shows only that line.
        texts: Texts of the first misses, each as :func:`failure_text` returns it.
        missed: Number of all misses.
    """
    more = [f"and {missed - len(texts):,} more"] if missed > len(texts) else []
    return "\n\n".join([printable(what, MAX_CHARS), *texts, *more])


def changed_text(form: str, changed: Sequence[tuple[CaseResult, CaseResult]], asked: int) -> str:
    """The answers that another form of the adapter changes, each with the pattern's line, the prompt and both answers.

    Args:
        form: Name of the form.
        changed: Pairs of rows (attached adapter, form), at least one.
        asked: Number of all prompts.
    """
    lines = [f"{form}: {len(changed)} of {asked} answers differ from the attached adapter's"]
    for attached, other in changed:
        case = attached.case
        lines.append(f"{_where(case)}: {attached.score.outcome} → {other.score.outcome}")
        lines += _labelled("prompt", case.prompt.user)
        lines += _labelled("attached", attached.completion.text) + _labelled(form, other.completion.text)
    return "\n".join(lines)


def _labelled(heading: str, text: str) -> list[str]:
    first, *rest = printable_lines(text, MAX_CHARS, MAX_LINES)
    return [f"  {heading:<10} {first}", *(f"  {'':<10} {line}" for line in rest)]


def _where(case: Case) -> str:
    return f"{printable(str(case.source), MAX_CHARS)}: {printable(case.id, MAX_CHARS)}"


def _answer(heading: str, completion: Completion | None) -> list[str]:
    if completion is None:
        return [f"  {heading:<10} (no answer)"]
    lines = _labelled(heading, completion.text)
    if completion.stop_reason == "length" and completion.reasoning and not completion.text:
        lines[-1] += "  (cut in its reasoning)"
    elif completion.stop_reason == "length":
        lines[-1] += f"  (cut after {completion.answer_tokens} tokens)"
    if completion.reasoning:
        lines += _labelled("reasoning", completion.reasoning)
        lines[-1] += f"  ({completion.reasoning_tokens} tokens)" if completion.reasoning_tokens else ""
    return lines


def _diff(expected: str, found: str) -> Iterator[str]:
    """The differences line by line, with marks under the characters that differ."""
    before, after = (printable_lines(text, MAX_CHARS, MAX_LINES) for text in (expected, found))
    if before != after:
        yield "  diff       - expected, + candidate"
        yield from (f"    {line.rstrip()}" for line in difflib.ndiff(before, after))


def wordings_text(reason: str, rows: Sequence[CaseResult]) -> str:
    """The reason why a pattern's wordings are not answered consistently, the pattern's line, and each wording's answer.

    Args:
        reason: First line; pytest's summary shows only that line.
        rows: Greedy answers of the candidate, one per wording, at least one.
    """
    case = rows[0].case
    lines = [printable(reason, MAX_CHARS), _where(case)]
    lines += _labelled("expected", case.answers[0] if case.answers else "")
    for row in rows:
        mark = {"passed": "correct", "failed": "wrong", "not_scored": "not scored"}[row.score.outcome]
        split = "" if row.case.split == "seen" else f", {row.case.split.replace('_', ' ')}"
        lines.append(f"  {mark}{split}: {printable(row.case.prompt.user, MAX_CHARS)}")
        lines += _labelled("", row.completion.text)
    return "\n".join(lines)
