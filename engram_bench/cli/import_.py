"""Import training data of other tools as a pattern file, and say what was taken and what was left out.

engram-bench import data/train.jsonl
engram-bench import data.csv --map input=question,output=answer --out patterns/faq.jsonl

Read are chat JSONL (messages), ShareGPT, Alpaca, and pairs in JSON, JSONL, CSV, TSV, Parquet and Arrow, alone or in a folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from engram_bench.cli.arguments import add_json
from engram_bench.cli.console import say, say_json
from engram_bench.errors import UsageError
from engram_bench.patterns.foreign.importing import Imported, import_patterns

COLUMNS = ("input", "output", "system", "category")


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the source, the target and the columns."""
    parser.add_argument("source", metavar="FILE|FOLDER", help="Data to import.")
    parser.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help="Pattern file to write. Default: patterns/NAME.jsonl, with the source's name.",
    )
    parser.add_argument(
        "--map",
        metavar="FIELD=COLUMN,…",
        default="",
        help="Columns of the question and the answer: input=COLUMN,output=COLUMN, perhaps system and category. Default: none.",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="Read the first N rows alone. Default: all.")
    parser.add_argument("--force", action="store_true", help="Replace a pattern file that exists.")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Import, and print the report."""
    source = Path(args.source)
    target = Path(args.out) if args.out else Path("patterns") / f"{source.stem or source.name}.jsonl"
    _check_suffix(target)
    _check_limit(args.limit)
    if target.exists() and not args.force:
        msg = f"--out: {target} exists, expected another file, or --force to replace it"
        raise UsageError(msg)
    found = import_patterns(source, target, columns=_columns(args.map), limit=args.limit)
    if args.json:
        say_json({"path": str(target), **asdict(found)})
    else:
        say(*_lines(found, target))
    return 0


def _check_suffix(target: Path) -> None:
    if target.suffix != ".jsonl":
        msg = f"--out: got {str(target)!r}, expected a file with the suffix .jsonl"
        raise UsageError(msg)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        msg = f"--limit: got {limit}, expected at least 1"
        raise UsageError(msg)


def _lines(found: Imported, target: Path) -> list[str]:
    lines = [f"format: {found.words}", f"taken: {found.taken} of {found.rows} rows, written to {target}"]
    for reason, count in found.left_out.most_common():
        lines.append(f"left out: {count} with {reason} (first in {found.first[reason]})")
    if found.cleaned:
        lines.append(f"cleaned: {found.cleaned} rows had control characters, which are spaces now")
    return [*lines, f"next: engram-bench check {target}"]


def _columns(text: str) -> Mapping[str, str] | None:
    if not text:
        return None
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not (equals and column) or name not in COLUMNS or name in found:
            msg = f"--map: got {text!r}, expected FIELD=COLUMN once for each of {', '.join(COLUMNS)} that is there"
            raise UsageError(msg)
        found[name] = column
    if not {"input", "output"} <= found.keys():
        msg = f"--map: got {text!r}, expected input=COLUMN and output=COLUMN"
        raise UsageError(msg)
    return found
