"""Train the adapter of the project's patterns, or find the one stored for the same patterns, model and recipe."""

from __future__ import annotations

import argparse
from typing import Any

from engram_bench.cli.adapter import adapter_document
from engram_bench.cli.arguments import CANDIDATES, TRAINING, add_json, add_quiet, add_settings
from engram_bench.cli.bench import adapter_words, open_benches
from engram_bench.cli.console import say, say_error, say_json
from engram_bench.errors import EngramBenchError
from engram_bench.system.provenance import utc_now


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the settings of a training."""
    add_settings(parser, *TRAINING, *CANDIDATES)
    add_quiet(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train or load the adapter of every candidate, and print what each is; 3 if one of several failed."""
    started = utc_now()
    args.engram_adapter = "auto"  # an ini key engram_adapter does not stop a training that was asked for
    found: dict[str, dict[str, Any]] = {}
    status = 0
    with open_benches(args) as benches:
        for name, bench in benches.items():
            try:
                adapter = bench.tuning.adapter
            except EngramBenchError as error:
                if len(benches) == 1:
                    raise
                say_error(f"candidate {name}: {error}")
                status = 3
                continue
            was_stored = adapter is not None and adapter.manifest.created < started
            found[name] = {**adapter_document(adapter), "stored": was_stored} if adapter else {"name": "none"}
            if not args.json:
                say(*([f"candidate {name}"] if len(benches) > 1 else []))
                say(f"adapter  {adapter_words(adapter, was_stored=was_stored)}")
                say(*([f"folder   {adapter.path}"] if adapter else []))
        if args.json:
            say_json({"candidates": found} if len(benches) > 1 else next(iter(found.values())))
    return status
