"""Show what changed between two saved runs, or compare several candidates with each other.

With two runs: newly broken cases, newly correct ones, then the figures of both runs. With three or more runs, or with
names (NAME=RUN), each run is a candidate: figures, ranks, paired tests of every two and the cases of each. Several runs
under one name are the seeds of one recipe.
"""

from __future__ import annotations

import argparse

from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.bench import show_changes
from engram_bench.cli.candidates import named_runs, show_candidates
from engram_bench.cli.console import say_json
from engram_bench.cli.project import settings_of
from engram_bench.errors import UsageError
from engram_bench.records import Run
from engram_bench.reporting.changes import differences
from engram_bench.reporting.json_report import json_report
from engram_bench.runs.store import find_run, load_run
from engram_bench.scoring.comparison import compare_runs
from engram_bench.scoring.gates import session_gates

OF_CANDIDATES = ("gate", "html", "markdown")
"""Arguments with which two runs are compared as candidates, too."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the runs, and what is written about candidates."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]RUN",
        help="A run: a number, a name, a file, latest, or RUN:NAME for one of its candidates; the newer one of two last. "
        "A single run is compared with latest.",
    )
    parser.add_argument(
        "--fail-on-broken",
        action="store_true",
        help="Exit with 1 if a case is newly broken or has no verdict, or if no case is in both runs (two runs).",
    )
    parser.add_argument(
        "--gate",
        action="append",
        default=[],
        metavar="EXPR",
        help="Gate on the candidates, such as 'careful.accuracy >= +5pp over fast'; repeatable. Default: none.",
    )
    parser.add_argument("--html", metavar="FILE", help="Write the page on the candidates to this file. Default: none.")
    parser.add_argument("--markdown", metavar="FILE", help="Write the Markdown on the candidates. Default: none.")
    add_settings(parser, "report-dir")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the changes or the candidates; 1 with a gate that fails, or a newly broken case and ``--fail-on-broken``."""
    report_dir = settings_of(args).report_dir
    candidates = named_runs(args.runs)
    if len(args.runs) > 2 or candidates.are_named or any(getattr(args, name) for name in OF_CANDIDATES):
        if args.fail_on_broken:
            raise UsageError("--fail-on-broken: found candidates, expected two runs without names, gates and pages")
        gates = session_gates(args.gate, candidates=tuple(candidates.runs)) if args.gate else ()
        found = candidates.load(report_dir)
        return show_candidates(found, gates, html=args.html, markdown=args.markdown, as_json=args.json)
    references = (*args.runs, "latest")[:2]
    older, newer = (load_run(find_run(report_dir, reference)) for reference in references)
    comparison = compare_runs(older, newer)
    if args.json:
        was_trained = json_report(older, comparison, ())["training"]
        about = {"older": older.name, "older_training": was_trained, "differ": differences(older, newer)}
        say_json({**about, **json_report(newer, comparison, ())})
    else:
        show_changes(older, newer)
    is_fine = comparison.ledger and not any(entry.state == "broken" for entry in comparison.ledger)
    return 0 if not args.fail_on_broken or (is_fine and not _has_unscored(newer)) else 1


def _has_unscored(run: Run) -> bool:
    """Whether a case of the run's candidate has no verdict."""
    rows = (row for row in run.results if row.side == "candidate")
    return bool(run.missing) or any(row.score.outcome == "not_scored" for row in rows)
