"""The comparison as one Markdown page: ``reports/latest.md``."""

from __future__ import annotations

from collections.abc import Sequence

from engram_bench.records import Comparison, Run, Verdict


def markdown_report(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """The whole comparison as GitHub-flavoured Markdown, ending in a newline."""
    raise NotImplementedError
