"""Print the training, evaluation and improvement tables of the newest run of each model and backend, as Markdown.

With --write FILE the tables replace the text between the two marker lines of that file, so that a page of documentation
shows figures of real runs only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from engram_bench.cli.arguments import add_settings
from engram_bench.cli.console import say, say_error
from engram_bench.cli.project import settings_of
from engram_bench.errors import StoreError, UsageError
from engram_bench.reporting.status import status_markdown
from engram_bench.runs.history import read_history
from engram_bench.runs.store import find_run, load_run
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import read_text

BEGIN, END = "<!-- engram-bench status: begin -->", "<!-- engram-bench status: end -->"


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare which runs to show, and where to write the tables."""
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="Numbers, names or files. Default: the newest run of each model and backend.",
    )
    parser.add_argument(
        "--write",
        metavar="FILE",
        help=f"Put the tables between '{BEGIN}' and '{END}' of this file. Default: print them.",
    )
    add_settings(parser, "report-dir")


def run(args: argparse.Namespace) -> int:
    """Print or write the tables; 0."""
    report_dir = settings_of(args).report_dir
    paths = [find_run(report_dir, reference) for reference in args.runs] or _newest(report_dir)
    text = status_markdown([load_run(path) for path in paths])
    if args.write is None:
        say(text.removesuffix("\n"))
    else:
        path = Path(args.write)
        write_atomic(path, _between_markers(path, text))
    return 0


def _newest(report_dir: Path) -> list[Path]:
    """The newest run of each model and backend, oldest first."""
    history = read_history(report_dir)
    for reason in history.unreadable:
        say_error(f"left out: {reason}")
    newest = {(row.model, row.backend): row.name for row in history.rows}
    if not newest:
        msg = f"{report_dir / 'runs'}: no run saved yet, expected one: pytest and engram-bench eval save one each"
        raise UsageError(msg)
    return [report_dir / "runs" / f"{name}.json" for name in sorted(newest.values())]


def _between_markers(path: Path, text: str) -> str:
    """The text of the file with *text* between its marker lines."""
    try:
        page = read_text(path)
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        raise StoreError(msg) from error
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        msg = f"{path}: no marker lines, expected '{BEGIN}' and '{END}'"
        raise UsageError(msg)
    return f"{head}{begin}\n{text}{end}{tail}"
