"""Compare the variants of an adapter: train each on the same patterns, ask each the same questions; one table, one plot.

Adapters and answers are stored, so a second run trains and asks only what is new. Decoding is timed again on every run with
--speed. The results are arms.json, arms.md and plots/arms.svg in the report folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from engram_bench.cli.arguments import TRAINING, add_json, add_quiet, add_settings, add_speed
from engram_bench.cli.bench import open_bench
from engram_bench.cli.console import say, say_json, width
from engram_bench.errors import UsageError
from engram_bench.records.plain import to_plain
from engram_bench.reporting.plots import standalone
from engram_bench.reporting.variants import counts_words, variants_markdown, variants_plot, variants_table
from engram_bench.scoring.variants import VariantRow
from engram_bench.session.variants import DEFAULT_VARIANTS, load_variants, run_variants, save_variants, variant_settings
from engram_bench.system.files import write_atomic

OF_VARIANTS = ("kind", "retrain")
"""Settings that each variant decides, or that would train every variant again."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare which variants to compare, the adapters that exist already, and the settings that all variants share."""
    parser.add_argument(
        "--arms",
        metavar="VARIANT,…",
        default=",".join(DEFAULT_VARIANTS),
        help="Variants to compare: baseline, KIND or KIND+ROUTE, with the values of --kind and --route. Default: %(default)s.",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="VARIANT=PATH",
        help="Use the adapter in this folder for the variant instead of training one. Default: none.",
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="FILE",
        help="Also show the rows of this arms.json in the table and the plot. Default: none.",
    )
    shared = (*TRAINING, "report-dir", "max-tokens", "limit", "no-cache", "speed-rounds")
    add_settings(parser, *(name for name in shared if name not in OF_VARIANTS))
    add_speed(parser)
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table and return 0; an error unless every variant can be trained and asked."""
    names = list(dict.fromkeys(part.strip() for part in args.arms.split(",") if part.strip()))
    adapters = _pairs(args.adapter)
    beside = [row for path in args.beside for row in load_variants(Path(path)).rows]

    def watch(row: VariantRow) -> None:
        if not args.json and not args.quiet:
            say(f"{row.variant}: {row.adapter or 'the bare model'}")

    with open_bench(args, has_candidates=False) as bench:
        settings = variant_settings(bench.settings, names, adapters)
        for name in adapters:
            with bench.under(settings[name]) as given:
                given.check()
        found = run_variants(bench.under, settings, speed=args.speed, watch=watch)
        report_dir = bench.settings.report_dir
    rows = [*beside, *found.rows]
    made = found.provenance
    origin = f"{made.machine}, backend {made.backend}, commit {made.commit}, {made.started}."
    save_variants(report_dir / "arms.json", found)
    write_atomic(report_dir / "arms.md", variants_markdown(rows, origin))
    if plot := variants_plot(rows):
        write_atomic(report_dir / "plots" / "arms.svg", standalone(plot))
    if args.json:
        say_json(to_plain(found))
        return 0
    for line in (*variants_table(rows).plain(width()), f"n: {counts_words(rows)}", origin):
        say(line)
    return 0


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    """Variant → folder of its adapter.

    Raises:
        UsageError: A text is no ``VARIANT=PATH``, or two of them name one variant.
    """
    found: dict[str, str] = {}
    for variant, path in map(_pair, texts):
        if variant in found:
            msg = f"--adapter: got {found[variant]} and {path} for {variant!r}, expected one adapter per variant"
            raise UsageError(msg)
        found[variant] = path
    return found


def _pair(text: str) -> tuple[str, str]:
    """Variant and folder of one ``VARIANT=PATH``."""
    variant, equals, path = text.partition("=")
    if not (variant and equals and path):
        msg = f"--adapter: got {text!r}, expected VARIANT=PATH"
        raise UsageError(msg)
    return variant, str(Path.cwd() / path)
