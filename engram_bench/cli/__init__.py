"""The ``engram-bench`` command: each command is a thin layer over a session and its stores, in a module of its own.

Exit status: 0 all is well, 1 a gate or a case failed, 2 the arguments or the pattern files are wrong, 3 something in the
environment is wrong (a model, a library, a file), 130 interrupted.
"""

from __future__ import annotations

import argparse
import keyword
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn, Protocol

from engram_bench import __version__
from engram_bench.cli.console import say_error
from engram_bench.door import hide_credentials
from engram_bench.errors import EngramBenchError, PatternFileError, UsageError

OK, FAILED, USAGE, ENVIRONMENT, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

COMMANDS = {
    "init": "create patterns, pytest configuration, a CI workflow and .gitignore lines",
    "check": "look for mistakes in pattern files; loads no model",
    "import": "read training data of other tools as a pattern file",
    "generate": "write the training examples as train.jsonl and valid.jsonl",
    "recipe": "show, explain or compare the settings of a training",
    "train": "train the adapter of the patterns, or find the stored one",
    "eval": "ask both models every question, compare the answers, judge the gates",
    "run": "run the whole pipeline: check, generate, train, evaluate, report",
    "sweep": "try many recipes on the same patterns and keep the best",
    "arms": "compare the variants of an adapter: what each learned, forgot and cost",
    "demo": "show both models' answers side by side, token by token",
    "report": "show or judge a saved run again, without a model",
    "compare": "show what changed between two saved runs, newly broken cases first",
    "history": "show accuracy and other metrics of all saved runs over time",
    "status": "print tables of training, evaluation and improvement from saved runs, in Markdown",
    "backends": "list the backends that can train and answer on this machine",
    "adapter": "list, show, export, import or delete stored adapters",
    "memory": "inspect a stored memory, remove patterns, or add patterns",
    "cache": "show or clear what is cached for this user",
}
"""Command → its summary; the module of that name, with ``_`` behind a keyword, declares and runs the command."""


class Command(Protocol):
    """What the module of a command has."""

    def declare(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments to its parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the command and return the exit status."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints, which quote the arguments, pass the door."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message to standard error, and exit with status 2."""
        self.print_usage(sys.stderr)
        say_error(f"{self.prog}: error: {message}")
        raise SystemExit(USAGE)


class CommandParser(Parser):
    """A parser that imports its command's module when it has arguments to parse, so that a help text loads no command."""

    def __init__(self, *args: Any, command: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self._command = command

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The arguments, after the command's module has declared them."""
        self.load()
        return super().parse_known_args(args, namespace)

    def load(self) -> None:
        """Import the command's module and declare its arguments, once."""
        name, self._command = self._command, ""
        if name:
            module = f"{name}_" if keyword.iskeyword(name) else name
            command: Command = import_module(f"engram_bench.cli.{module}")  # type: ignore[assignment]
            self.description = (command.__doc__ or COMMANDS[name]).strip()
            command.declare(self)
            self.set_defaults(run=command.run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Errors of this package and of the operating system are printed to standard error without a traceback.
    """
    hide_credentials(" ".join(sys.argv if argv is None else argv))
    try:
        args = command_parser().parse_args(argv)
        status = int(args.run(args))
        sys.stdout.flush()
    except (UsageError, PatternFileError) as error:
        say_error(f"engram-bench: {error}")
        return USAGE
    except EngramBenchError as error:
        say_error(f"engram-bench: {error}")
        return ENVIRONMENT
    except BrokenPipeError:  # the reader of a pipe has gone: nothing must be flushed into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        say_error(f"engram-bench: {error.filename or 'system'}: {error.strerror or error}")
        return ENVIRONMENT
    except KeyboardInterrupt:
        say_error("engram-bench: interrupted")
        return INTERRUPTED
    return status


def command_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the arguments of a command are declared once that command is parsed."""
    parser = Parser(
        prog="engram-bench",
        description="Patterns become test cases. An adapter is trained, compared with the bare model and judged by gates.",
        epilog="Exit status: 0 all is well, 1 a gate or a case failed, 2 wrong arguments or pattern files, "
        "3 a problem of the environment (a model, a library, a file). The same cases run as tests with: pytest",
    )
    parser.add_argument("--version", action="version", version=f"engram-bench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=CommandParser)
    for name, summary in COMMANDS.items():
        # allow_abbrev off: --adapter must not be taken for --adapter-dir where a command has only the latter
        commands.add_parser(name, help=summary, allow_abbrev=False, command=name)
    return parser
