"""What GitHub Actions shows of a session: annotations on lines of pattern files, and the page of a job.

Workflow commands and the job summary are described at
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from engram_bench.records import Comparison, LedgerEntry, Run, Verdict
from engram_bench.reporting.clean import printable
from engram_bench.reporting.markdown import markdown_report
from engram_bench.reporting.words import verdict_sentence

MAX_ANNOTATIONS = 10
"""Of errors and of warnings: GitHub shows no more of a step."""
MAX_ENTRIES = 25
"""Rows of a list in the summary, which may hold 1 MiB."""


def job_summary(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """The Markdown page with short lists, of what needs a look only."""
    return markdown_report(run, comparison, verdicts, states=("broken", "still_wrong"), max_entries=MAX_ENTRIES)


def workflow_commands(
    comparison: Comparison, verdicts: Sequence[Verdict], *, place: Callable[[str], str] = str
) -> list[str]:
    """Lines that mark gates that are not met, broken cases, and cases that were asked as trained and missed.

    Args:
        comparison: A case without a score, a broken or a required one is an error, another miss of a seen prompt a warning.
        verdicts: One that failed or is insufficient is an error.
        place: Path of a pattern file → its path in the repository.

    Returns:
        The first ``MAX_ANNOTATIONS`` errors and as many warnings; nothing in them can start another command.
    """
    lines = [*_gates(verdicts), *_unscored(comparison), *_cases(comparison.ledger, place)]
    return [
        line
        for level in ("error", "warning")
        for line in [line for line in lines if line.startswith(f"::{level}")][:MAX_ANNOTATIONS]
    ]


def _gates(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for verdict in verdicts:
        if verdict.outcome in ("fail", "insufficient"):
            reason = f": {verdict.reason}" if verdict.reason else ""
            yield _command("error", f"{verdict_sentence(verdict)}{reason}", title="engram-bench")


def _unscored(comparison: Comparison) -> Iterator[str]:
    for case_id in comparison.unscored:
        yield _command("error", f"{case_id} has no score, which never passes", title="engram-bench")


def _cases(ledger: Sequence[LedgerEntry], place: Callable[[str], str]) -> Iterator[str]:
    for entry in sorted(ledger, key=lambda entry: entry.state != "broken"):
        is_error = entry.state == "broken" or (entry.required and entry.state == "still_wrong")
        if is_error or (entry.state == "still_wrong" and entry.split == "seen"):
            yield _command(
                "error" if is_error else "warning",
                f"expected '{printable(entry.expected, 200)}', baseline said '{printable(entry.baseline, 200)}', "
                f"candidate says '{printable(entry.candidate, 200)}'",
                file=place(entry.source.path),
                line=str(entry.source.line),
                title=f"{entry.state.replace('_', ' ')}: {entry.case_id}",
            )


def _command(level: str, message: str, **properties: str) -> str:
    named = ",".join(f"{name}={_escaped(printable(value), ':,')}" for name, value in properties.items())
    return f"::{level} {named}::{_escaped(printable(message))}"


def _escaped(text: str, others: str = "") -> str:
    """*text* with the characters that end a value written as GitHub reads them."""
    for char in f"%\r\n{others}":
        text = text.replace(char, f"%{ord(char):02X}")
    return text
