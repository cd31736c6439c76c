"""Write the training examples of the patterns as train.jsonl and valid.jsonl, the chat format of mlx-lm and TRL."""

from __future__ import annotations

import argparse
from pathlib import Path

from engram_bench.cli.arguments import PATTERNS, add_json, add_settings
from engram_bench.cli.conftests import sets_of
from engram_bench.cli.console import say, say_json
from engram_bench.cli.project import find_project
from engram_bench.door import printable
from engram_bench.errors import UsageError
from engram_bench.patterns.render import training_examples, write_chat_jsonl
from engram_bench.system.reading import read_bytes

OUT = "data/engram"
"""Default folder of the training data, relative to the current folder."""
VALID_SHARE = 0.1
"""Default share of the examples for validation."""


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare where to write, and the share of examples for validation."""
    parser.add_argument("-o", "--out", metavar="DIR", default=OUT, help=f"Folder of the two files. Default: {OUT}.")
    parser.add_argument(
        "--valid-share",
        metavar="SHARE",
        type=float,
        default=VALID_SHARE,
        help=f"Share of the examples that go to valid.jsonl, 0 to below 1. Default: {VALID_SHARE}.",
    )
    add_settings(parser, *PATTERNS, "seed")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write both files and print how many examples each has."""
    if not 0 <= args.valid_share < 1:
        msg = f"--valid-share: got {args.valid_share}, expected at least 0 and below 1"
        raise UsageError(msg)
    cwd = Path.cwd()
    project = find_project(cwd)
    settings = project.settings(vars(args), cwd)
    examples = training_examples(sets_of(project, settings), seed=settings.seed)
    if not examples:
        msg = f"{', '.join(map(str, settings.patterns))}: no pattern of kind memory, expected at least one to train on"
        raise UsageError(msg)
    files = write_chat_jsonl(examples, Path(args.out), valid_share=args.valid_share, seed=settings.seed)
    lines = {path: read_bytes(path, limit=path.stat().st_size).count(b"\n") for path in files}
    patterns = len({example.pattern_id for example in examples})
    if args.json:
        counts = {path.stem: {"path": str(path), "examples": count} for path, count in lines.items()}
        say_json({"patterns": patterns, "examples": len(examples), **counts})
    else:
        written = ", ".join(f"{count} in {printable(str(path))}" for path, count in lines.items())
        say(f"{len(examples)} examples of {patterns} patterns: {written}")
    return 0
