"""One case as HTML, for the reports of pytest-html."""

from __future__ import annotations

from markupsafe import Markup

from engram_bench.door import printable
from engram_bench.records import CaseResult

MAX_CHARS = 2000
"""Longest text of a cell, in characters."""

_ROW = Markup("<tr><th>{}</th><td><code>{}</code></td></tr>")


def case_html(baseline: CaseResult | None, candidate: CaseResult) -> str:
    """A small table of prompt, expected answer, both answers and the pattern's line; texts are escaped and printable.

    Args:
        baseline: Result of the bare model; None where there is none.
        candidate: Result of the tuned model.
    """
    case = candidate.case
    texts = {
        "prompt": case.prompt.user,
        "expected": case.answers[0] if case.answers else "",
        "baseline": baseline.completion.text if baseline else "",
        "baseline's reasoning": baseline.completion.reasoning if baseline else "",
        "candidate": candidate.completion.text,
        "candidate's reasoning": candidate.completion.reasoning,
        "pattern": str(case.source),
    }
    rows = Markup().join(_ROW.format(name, printable(text, MAX_CHARS)) for name, text in texts.items() if text)
    return str(Markup('<table class="engram-bench">{}</table>').format(rows))
