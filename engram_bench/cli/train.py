"""Train the adapter of the project's patterns, or find the one stored for the same patterns, model and recipe."""

from __future__ import annotations

import argparse

from engram_bench.cli.adapter import adapter_document
from engram_bench.cli.arguments import TRAINING, add_json, add_quiet, add_settings
from engram_bench.cli.bench import adapter_words, open_bench
from engram_bench.cli.console import say, say_json
from engram_bench.system.provenance import utc_now


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the settings of a training."""
    add_settings(parser, *TRAINING)
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train or load the adapter, and print what it is."""
    started = utc_now()
    args.engram_adapter = "auto"  # an ini key engram_adapter does not stop a training that was asked for
    with open_bench(args) as bench:
        adapter = bench.adapter
        assert adapter is not None  # as the setting is auto
        was_stored = adapter.manifest.created < started
        if args.json:
            say_json({**adapter_document(adapter), "stored": was_stored})
        else:
            say(f"adapter  {adapter_words(adapter, was_stored=was_stored)}", f"folder   {adapter.path}")
    return 0
