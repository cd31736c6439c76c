"""Show the cache of this user, or clear it: models, and answers that need not be computed again."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from engram_bench.cli.arguments import add_json
from engram_bench.cli.console import say, say_json
from engram_bench.door import printable
from engram_bench.inference.store import STORE_FILE, CompletionStore
from engram_bench.models import default_cache_dir

PARTS = ("completions", "models")


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare what to clear."""
    parser.add_argument(
        "--clear",
        action="append",
        choices=PARTS,
        default=[],
        help="Delete the stored completions or the models; repeatable. Default: none.",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Clear what was asked for, then print what is left."""
    folder = default_cache_dir()
    store_file = folder / STORE_FILE
    if "models" in args.clear:
        shutil.rmtree(folder / "models", ignore_errors=True)
    about: dict[str, Any] = {"folder": str(folder), "completions": 0, "completions_bytes": 0, "models": {}}
    if store_file.exists():
        with CompletionStore(store_file) as store:
            if "completions" in args.clear:
                store.clear()
            stats = store.stats()
        about |= {"completions": stats.completions, "completions_bytes": stats.size}
    models = sorted(path for path in (folder / "models").glob("[!.]*") if path.is_dir())
    about["models"] = {path.name: _size(path) for path in models}
    if args.json:
        say_json(about)
    else:
        say(f"folder       {printable(about['folder'])}  (another one: ENGRAM_BENCH_CACHE)")
        say(f"completions  {about['completions']:,}, {_megabytes(about['completions_bytes'])}")
        for name, size in about["models"].items():
            say(f"model        {printable(name)}, {_megabytes(size)}")
    return 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
