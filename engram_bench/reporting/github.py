"""Output for GitHub Actions: annotations on lines of pattern files, and the summary of a job.

Workflow commands and the job summary are described at
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from engram_bench.door import printable
from engram_bench.records import Comparison, LedgerEntry, Run, Verdict
from engram_bench.reporting.markdown import markdown_report
from engram_bench.reporting.words import verdict_sentence

MAX_ANNOTATIONS = 10
"""Largest number of errors and of warnings; GitHub shows no more of a step."""
MAX_CHARS = 1000
"""Longest title and longest message of an annotation, in characters before they are escaped."""
MAX_ENTRIES = 25
"""Largest number of rows of a list in the summary, which may hold 1 MiB."""


def job_summary(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """The Markdown report with short lists of broken and still wrong cases only."""
    return markdown_report(run, comparison, verdicts, states=("broken", "still_wrong"), max_entries=MAX_ENTRIES)


def workflow_commands(
    comparison: Comparison, verdicts: Sequence[Verdict], *, repository_path: Callable[[str], str] = str
) -> list[str]:
    """Lines that mark missed gates, broken cases and missed seen prompts.

    Args:
        comparison: Comparison whose cases are marked. A broken case, a missed required one and a case without a score are
            errors; another miss of a seen prompt is a warning.
        verdicts: Verdicts of the gates; a failed or insufficient one is an error.
        repository_path: Function from the path of a pattern file to its path in the repository.

    Returns:
        The first ``MAX_ANNOTATIONS`` errors and as many warnings; no text in them can start another command.
    """
    lines = [*gate_commands(verdicts), *_unscored(comparison), *_cases(comparison.ledger, repository_path)]
    return [
        line
        for level in ("error", "warning")
        for line in [line for line in lines if line.startswith(f"::{level}")][:MAX_ANNOTATIONS]
    ]


def gate_commands(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Lines that mark missed gates."""
    for verdict in verdicts:
        if verdict.outcome in ("fail", "insufficient"):
            reason = f": {verdict.reason}" if verdict.reason else ""
            yield _command("error", f"{verdict_sentence(verdict)}{reason}", title="engram-bench")


def _unscored(comparison: Comparison) -> Iterator[str]:
    for case_id in comparison.unscored:
        yield _command("error", f"{case_id} has no score, so it does not pass", title="engram-bench")


def _cases(ledger: Sequence[LedgerEntry], repository_path: Callable[[str], str]) -> Iterator[str]:
    for entry in sorted(ledger, key=lambda entry: entry.state != "broken"):
        is_error = entry.state == "broken" or (entry.required and entry.state == "still_wrong")
        if is_error or (entry.state == "still_wrong" and entry.split == "seen"):
            yield _command(
                "error" if is_error else "warning",
                f"expected '{printable(entry.expected, 200)}', baseline said '{printable(entry.baseline, 200)}', "
                f"candidate says '{printable(entry.candidate, 200)}'",
                file=repository_path(entry.source.path),
                line=str(entry.source.line),
                title=f"{entry.state.replace('_', ' ')}: {entry.case_id}",
            )


def _command(level: str, message: str, **properties: str) -> str:
    named = ",".join(f"{name}={_escaped(printable(value, MAX_CHARS), ':,')}" for name, value in properties.items())
    return f"::{level} {named}::{_escaped(printable(message, MAX_CHARS))}"


def _escaped(text: str, others: str = "") -> str:
    """*text* with the characters that would end a value in GitHub's escaped form."""
    for char in f"%\r\n{others}":
        text = text.replace(char, f"%{ord(char):02X}")
    return text
