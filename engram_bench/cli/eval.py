"""Ask the bare and the tuned model every question of the patterns, compare the answers, judge the gates, save the run.

The cases, the run file and the reports are the same as with pytest, and so are the timed sides with --speed. The gates and
the required patterns decide the exit status. For one test per case, run: pytest
"""

from __future__ import annotations

import argparse

from engram_bench.cli.arguments import EVERYTHING, add_json, add_quiet, add_settings, add_speed
from engram_bench.cli.bench import evaluate_and_show, open_benches


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the settings of training, answering and judging."""
    add_speed(parser)
    add_settings(parser, *EVERYTHING)
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate every candidate; 1 if a gate fails, a required pattern is missed or a case could not be scored."""
    with open_benches(args) as benches:
        return evaluate_and_show(benches, args)
