"""Teach the same facts in every way there is and put the same questions to each: one table, one plot.

Adapters and answers are stored, so a second run trains and asks only what is new; decoding is timed anew, with --speed.
Leaves arms.json, arms.md and plots/arms.svg in the report folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from engram_bench.cli.arguments import TRAINING, add_json, add_quiet, add_settings, add_speed
from engram_bench.cli.bench import open_bench
from engram_bench.cli.console import say, say_json, width
from engram_bench.errors import UsageError

OF_ARMS = ("kind", "retrain")
"""Settings that the arms decide, or that would train each of them anew."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Which arms, what is at hand already, and the settings they share."""
    from engram_bench.session.variants import DEFAULT_VARIANTS

    parser.add_argument(
        "--arms",
        metavar="ARM,…",
        default=",".join(DEFAULT_VARIANTS),
        help="baseline, or KIND or KIND+ROUTE as --kind and --route have them. Default: %(default)s.",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="ARM=PATH",
        help="Take this adapter, train none for the arm. Default: none.",
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="FILE",
        help="Show the rows of this arms.json too, in table and plot. Default: none.",
    )
    shared = (*TRAINING, "report-dir", "max-tokens", "limit", "no-cache", "speed-rounds")
    add_settings(parser, *(name for name in shared if name not in OF_ARMS))
    add_speed(parser)
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; 0 unless an arm cannot be trained or asked."""
    from engram_bench.records.plain import to_plain
    from engram_bench.reporting.plots import standalone
    from engram_bench.reporting.variants import arms_markdown, arms_plot, arms_table, counts_words
    from engram_bench.scoring.variants import ArmRow
    from engram_bench.session.variants import load_variants, run_variants, save_variants, variant_settings
    from engram_bench.system.files import write_atomic

    names = list(dict.fromkeys(part.strip() for part in args.arms.split(",") if part.strip()))
    adapters = dict(_pair(text) for text in args.adapter)
    beside = [row for path in args.beside for row in load_variants(Path(path)).rows]

    def watch(row: ArmRow) -> None:
        if not args.json and not args.quiet:
            say(f"{row.arm}: {row.adapter or 'the bare model'}")

    with open_bench(args) as bench:
        variants = variant_settings(bench.settings, names, adapters)
        arms = run_variants(bench.under, variants, speed=args.speed, watch=watch)
        report_dir = bench.settings.report_dir
    rows = [*beside, *arms.rows]
    made = arms.provenance
    origin = f"{made.machine}, backend {made.backend}, commit {made.commit}, {made.started}."
    save_variants(report_dir / "arms.json", arms)
    write_atomic(report_dir / "arms.md", arms_markdown(rows, origin))
    if plot := arms_plot(rows):
        write_atomic(report_dir / "plots" / "arms.svg", standalone(plot))
    if args.json:
        say_json(to_plain(arms))
        return 0
    for line in (*arms_table(rows).plain(width()), f"n: {counts_words(rows)}", origin):
        say(line)
    return 0


def _pair(text: str) -> tuple[str, str]:
    arm, equals, path = text.partition("=")
    if not (arm and equals and path):
        msg = f"--adapter: got {text!r}, expected ARM=PATH"
        raise UsageError(msg)
    return arm, str(Path.cwd() / path)
