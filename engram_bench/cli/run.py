"""Run the whole pipeline: check the patterns, write the training data, train, ask both sides, report, show a short demo.

The gates and the required patterns decide the exit status.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from engram_bench.cli.arguments import EVERYTHING, add_quiet, add_settings, add_speed
from engram_bench.cli.bench import adapter_words, evaluate_and_show, open_benches
from engram_bench.cli.console import say
from engram_bench.cli.demo import quick_demo
from engram_bench.cli.generate import OUT
from engram_bench.errors import EngramBenchError
from engram_bench.patterns.render import write_chat_jsonl
from engram_bench.session.bench import Bench
from engram_bench.system.provenance import utc_now


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the settings of every stage, and the stages to leave out."""
    parser.add_argument("-o", "--out", metavar="DIR", default=OUT, help=f"Folder of the training data. Default: {OUT}.")
    parser.add_argument("--skip-demo", action="store_true", help="Show no demo at the end.")
    add_speed(parser)
    add_settings(parser, *EVERYTHING)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Run every stage and return the exit status of the evaluation."""
    started = utc_now()
    with open_benches(args) as benches:
        bench = next(iter(benches.values()))
        patterns = sum(len(each.patterns) for each in bench.sets)
        _stage(1, f"patterns: {patterns} in {len(bench.sets)} file{'s' * (len(bench.sets) > 1)}, no mistakes")
        if bench.tuning.examples:
            write_chat_jsonl(bench.tuning.examples, Path(args.out), seed=bench.settings.seed)
        _stage(2, f"training data: {len(bench.tuning.examples)} examples in {args.out}")
        _train_each(benches, started)
        _stage(4, "evaluation: both sides, case by case")
        say("")
        status = evaluate_and_show(benches, args)
        say("")
        report_dir = bench.settings.report_dir
        _stage(5, f"reports: {report_dir / ('latest.html' if len(benches) == 1 else 'candidates')}")
        if not args.skip_demo:
            _stage(6, "demo (leave it out with --skip-demo)")
            quick_demo(bench)
    return status


def _train_each(benches: Mapping[str, Bench], started: str) -> None:
    """Train every candidate; one of several that fails is left to the evaluation, which names it."""
    for name, bench in benches.items():
        try:
            adapter = bench.tuning.adapter
        except EngramBenchError:
            if len(benches) == 1:
                raise
            continue
        was_stored = adapter is not None and adapter.manifest.created < started
        label = f"adapter of {name}" if len(benches) > 1 else "adapter"
        _stage(3, f"{label}: {adapter_words(adapter, was_stored=was_stored)}")


def _stage(number: int, text: str) -> None:
    say(f"{number}. {text}", style="bold")
