"""Show a saved run again, in any form, or judge it by other gates; no model is needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.bench import older_run, show
from engram_bench.cli.console import encoding, say
from engram_bench.cli.project import settings_of
from engram_bench.reporting.html import html_report
from engram_bench.reporting.json_report import json_text
from engram_bench.reporting.markdown import markdown_report
from engram_bench.reporting.terminal import comparison_lines
from engram_bench.runs.store import find_run, load_run
from engram_bench.session.conclusion import Conclusion, conclude
from engram_bench.system.files import write_atomic


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare which run to show, in which form, and where to write it."""
    parser.add_argument(
        "run_reference",
        nargs="?",
        default="latest",
        metavar="RUN",
        help="Number, name or file of the run. Default: latest.",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="Form of the report. Default: text.")
    parser.add_argument("-o", "--out", metavar="FILE", help="Write the report to this file. Default: print it.")
    add_settings(parser, "gate", "report-dir", "show", "compare")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show the run; 1 if a gate fails now."""
    settings = settings_of(args)
    path = find_run(settings.report_dir, args.run_reference)
    conclusion = conclude(load_run(path), settings)
    older = older_run(settings)
    form = "json" if args.json else args.format
    if args.out is None and form in ("json", "text"):
        return show(conclusion, settings, page=path, older=older, as_json=form == "json")
    text = FORMATS[form](conclusion)
    if args.out is None:
        say(text.removesuffix("\n"))
    else:
        write_atomic(Path(args.out), text)
    return 0 if conclusion.passes else 1


def _text(conclusion: Conclusion) -> str:
    lines = comparison_lines(conclusion.run, conclusion.comparison, conclusion.verdicts, width=100, encoding=encoding())
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Conclusion], str]] = {
    "text": _text,
    "markdown": lambda found: markdown_report(found.run, found.comparison, found.verdicts),
    "json": lambda found: json_text(found.run, found.comparison, found.verdicts),
    "html": lambda found: html_report(found.run, found.comparison, found.verdicts),
}
"""Form of a report → its text."""
