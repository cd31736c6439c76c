"""Show what changed between two saved runs: newly broken cases, newly correct ones, then the figures of both runs."""

from __future__ import annotations

import argparse

from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.bench import show_changes
from engram_bench.cli.console import say_json
from engram_bench.cli.project import settings_of
from engram_bench.reporting.changes import differences
from engram_bench.reporting.json_report import json_report
from engram_bench.runs.store import find_run, load_run
from engram_bench.scoring.comparison import compare_runs


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the two runs."""
    parser.add_argument(
        "older",
        metavar="RUN",
        help="The run to compare with: a number, a name, a file or latest. RUN:NAME is the run of one candidate of a session.",
    )
    parser.add_argument("newer", nargs="?", default="latest", metavar="RUN", help="The newer run. Default: latest.")
    parser.add_argument("--fail-on-broken", action="store_true", help="Exit with 1 if a case is newly broken.")
    add_settings(parser, "report-dir")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the changes; 1 only with ``--fail-on-broken`` and a newly broken case."""
    report_dir = settings_of(args).report_dir
    older, newer = (load_run(find_run(report_dir, reference)) for reference in (args.older, args.newer))
    comparison = compare_runs(older, newer)
    if args.json:
        was_trained = json_report(older, comparison, ())["training"]
        about = {"older": older.name, "older_training": was_trained, "differ": differences(older, newer)}
        say_json({**about, **json_report(newer, comparison, ())})
    else:
        show_changes(older, newer)
    has_broken = any(entry.state == "broken" for entry in comparison.ledger)
    return 1 if args.fail_on_broken and has_broken else 0
