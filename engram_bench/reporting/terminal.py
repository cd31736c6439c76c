"""The comparison as the lines of a terminal section."""

from __future__ import annotations

from collections.abc import Sequence

from engram_bench.records import Comparison, Run, Verdict


def comparison_lines(
    run: Run,
    comparison: Comparison,
    verdicts: Sequence[Verdict],
    *,
    width: int = 80,
    encoding: str = "utf-8",
    report: str = "",
) -> list[str]:
    """What a user reads at the end of a session, without the section's title line."""
    raise NotImplementedError
