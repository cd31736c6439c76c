"""The ``engram-bench`` command: each command a thin layer over the pipeline and the stores, in a module of its own.

Exit status: 0 all is well, 1 a gate or a case failed, 2 the arguments or the pattern files are at fault, 3 the environment
is (a model, a library, a file), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from engram_bench import __version__
from engram_bench.errors import EngramBenchError, PatternFileError, UsageError

OK, FAILED, USAGE, ENVIRONMENT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

COMMANDS = {
    "init": "scaffold patterns, pytest configuration, a CI workflow and .gitignore lines",
    "check": "look for mistakes in pattern files; loads no model",
    "generate": "write the training examples as train.jsonl and valid.jsonl",
    "train": "train the adapter of the patterns, or find the stored one",
    "eval": "ask the bare and the tuned model everything, compare, judge the gates",
    "run": "the whole pipeline: check, generate, train, evaluate, report",
    "arms": "every way to teach the patterns, one table: learned, forgotten, cost",
    "demo": "before and after, side by side, token by token",
    "report": "show or judge a saved run again, without a model",
    "compare": "what changed between two saved runs, newly broken cases first",
    "history": "accuracy and the other figures over all saved runs",
    "status": "training, evaluation and improvement tables from saved runs, in Markdown",
    "backends": "what can train and answer on this machine",
    "adapter": "list, show, export, import or prune stored adapters",
    "memory": "look into a stored memory, take facts out of it, add others",
    "cache": "what is cached for this user, and how to clear it",
}
"""Command → what it does; the module of that name declares and runs it."""


class Command(Protocol):
    """What a command's module has."""

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status. Errors of this package and of the system end up on stderr, without a traceback."""
    from engram_bench.cli.console import say_error

    try:
        args = _parser().parse_args(argv)
        status = int(args.run(args))
        sys.stdout.flush()
    except (UsageError, PatternFileError) as error:
        say_error(f"engram-bench: {error}")
        return USAGE
    except EngramBenchError as error:
        say_error(f"engram-bench: {error}")
        return ENVIRONMENT
    except (
        BrokenPipeError
    ):  # the reader of a pipe has gone: nothing to say, and nothing must be flushed into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        say_error(f"engram-bench: {error.filename or 'system'}: {error.strerror or error}")
        return ENVIRONMENT
    except KeyboardInterrupt:
        say_error("engram-bench: interrupted")
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="engram-bench",
        description="Patterns become test cases; adapters are trained, compared with the bare model and gated.",
        epilog="Exit status: 0 all is well, 1 a gate or a case failed, 2 wrong arguments or pattern files, "
        "3 the environment (a model, a library, a file). The same cases run as tests with: pytest",
    )
    parser.add_argument("--version", action="version", version=f"engram-bench {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command: Command = import_module(f"engram_bench.cli.{name}")  # type: ignore[assignment]
        # allow_abbrev off: --adapter must not be taken for --adapter-dir where a command has only the latter
        subparser = subparsers.add_parser(
            name, help=summary, description=(command.__doc__ or summary).strip(), allow_abbrev=False
        )
        command.declare(subparser)
        subparser.set_defaults(run=command.run)
    return parser
