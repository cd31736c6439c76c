"""Show accuracy, held-out accuracy, consistency, retention and speed ratio of every saved run, oldest first."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.console import say, say_error, say_json, table, width
from engram_bench.cli.project import settings_of
from engram_bench.door import printable
from engram_bench.errors import UsageError
from engram_bench.records.plain import to_plain
from engram_bench.reporting.trend import trend_svg
from engram_bench.runs.history import TREND, Point, RunRow, read_history
from engram_bench.system.files import write_atomic


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare how many runs to show, and where to plot them."""
    parser.add_argument(
        "-n", "--last", type=int, default=20, metavar="N", help="Number of runs to show, the newest ones. Default: 20."
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="Draw the trend of these runs as SVG into this file. Default: none."
    )
    parser.add_argument("--candidate", metavar="NAME", help="Show only the runs of this candidate. Default: all runs.")
    add_settings(parser, "report-dir")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the runs. A file that cannot be read is left out and named on standard error."""
    if args.last < 1:
        msg = f"--last: got {args.last}, expected a whole number of at least 1"
        raise UsageError(msg)
    settings = settings_of(args)
    history = read_history(settings.report_dir)
    for reason in history.unreadable:
        say_error(f"left out: {reason}")
    known = history.rows
    if args.candidate is not None:
        known = tuple(row for row in known if row.candidate == args.candidate)
        _check_name(args.candidate, history.rows, found=bool(known))
    rows = known[-args.last :]
    if args.plot and rows:
        write_atomic(Path(args.plot), trend_svg(rows))
    if args.json:
        say_json(to_plain(rows))
    elif rows:
        _print(rows, len(known))
    else:
        say(f"no run saved yet in {settings.report_dir / 'runs'}: pytest and engram-bench eval save one each")
    return 0


def _check_name(name: str, rows: Sequence[RunRow], *, found: bool) -> None:
    names = list(dict.fromkeys(row.candidate for row in rows if row.candidate))
    if not found:
        expected = f"one of {', '.join(names)}" if names else "a name, but no saved run has a named candidate"
        msg = f"--candidate: got {name!r}, expected {expected}"
        raise UsageError(msg)


def _print(rows: Sequence[RunRow], total: int) -> None:
    names = [name for name in TREND if any(name in row.points for row in rows)]
    candidate = ["candidate"] if any(row.candidate for row in rows) else []
    headers = ("run", "started", "commit", *candidate, *(name.replace(" ", "\n") for name in names))
    cells = [
        (
            row.name.split("-")[0],
            row.started[:16].replace("T", " "),
            row.commit[:7],
            *([row.candidate] if candidate else []),
            *_figures(row, names),
        )
        for row in rows
    ]
    say(*table(cells, *headers, align="lll" + "l" * len(candidate) + "r" * len(names)))
    notes = []
    if len(rows) < total:
        notes.append(f"the last {len(rows)} of {total} runs; all of them with --last {total}")
    if missing := [name for name in TREND if name not in names]:
        notes.append(f"not measured in these runs: {', '.join(missing)}")
    notes += [
        *_mixed("models", rows, [row.model for row in rows]),
        *_mixed("backends", rows, [row.backend for row in rows]),
    ]
    say(*(["", *(line for note in notes for line in textwrap.wrap(note, max(width(), 20)))] if notes else []))


def _figures(row: RunRow, names: Sequence[str]) -> list[str]:
    def words(point: Point | None, name: str) -> str:
        if point is None:
            return ""
        return f"{point.value:.2f}" if name == "speed ratio" else f"{100 * point.value:.1f} %"

    return [words(row.points.get(name), name) for name in names]


def _mixed(word: str, rows: Sequence[RunRow], names: Sequence[str]) -> Iterator[str]:
    """The runs of each model or backend, where there is more than one."""
    if len(set(names)) > 1:
        yield f"different {word}, compare with care:"
        for name in dict.fromkeys(names):
            numbers = [row.name.split("-")[0] for row, own in zip(rows, names, strict=True) if own == name]
            yield f"- {printable(name)}: {', '.join(numbers)}"
