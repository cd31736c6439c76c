"""What a failing case shows."""

from __future__ import annotations

from engram_bench.records import Case, Completion, Score


def failure_text(
    case: Case, baseline: Completion | None, candidate: Completion | None, score: Score, *, width: int = 80
) -> str:
    """Prompt, expected answer, both sides' answers, a diff, the reason and the pattern's file and line."""
    raise NotImplementedError
