"""List every backend: whether it can run on this machine, on which device, and what is missing where it cannot."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from typing import Any

from engram_bench.backends.registry import backends_table, choose_backend
from engram_bench.cli.arguments import add_json
from engram_bench.cli.console import say, say_json, width
from engram_bench.door import printable


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the form of the output."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list; 3 if no backend can run."""
    rows = backends_table()
    auto, reason = choose_backend()
    if args.json:
        say_json({"auto": auto, "reason": reason, "backends": {row["name"]: row for row in rows}})
    else:
        for row in rows:
            say(f"{row['name']:<6} {printable(row['library'])}", style="bold")
            for words in filter(None, (row["reason"] or _device_words(row), _versions_words(row), row["install"])):
                about = textwrap.wrap(printable(words), max(width() - 7, 20), break_on_hyphens=False)
                say(*(f"       {line}" for line in about), style="green" if row["available"] else "yellow")
        say("", f"--backend auto takes {auto}: {reason}")
    return 0 if any(row["available"] for row in rows) else 3


def _device_words(row: Mapping[str, Any]) -> str:
    return ", ".join(word for word in dict.fromkeys((row["device"], row["dtype"], row["note"])) if word)


def _versions_words(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{library} {version}" for library, version in row["versions"].items())
