"""Ask the bare and the tuned model everything the patterns ask, compare case by case, judge the gates, save the run.

The same cases as pytest's, the same run file and reports; with --speed, the same timed sides. The gates and required
patterns decide the exit status; for a test per case, run: pytest
"""

from __future__ import annotations

import argparse

from engram_bench.cli.arguments import EVERYTHING, add_json, add_quiet, add_settings, add_speed
from engram_bench.cli.bench import evaluate_and_show, open_bench


def declare(parser: argparse.ArgumentParser) -> None:
    """The settings of training, answering and judging."""
    add_speed(parser)
    add_settings(parser, *EVERYTHING)
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate; 1 if a gate fails, a required pattern is missed or a case could not be scored."""
    with open_bench(args) as bench:
        return evaluate_and_show(bench, args)
