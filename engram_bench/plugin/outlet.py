"""The plugin's ways out: failures, skips, usage errors and lines of the terminal, each through the door.

No other module of the plugin calls ``pytest.fail`` and the like, or writes; ``tests/test_outlets.py`` looks for such calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import pytest

from engram_bench.door import LONGEST_LINE, inert, printable


def fail(text: str) -> NoReturn:
    """Fail the test with this text, without a traceback and without the errors behind it, whose words are not ours."""
    try:
        pytest.fail(inert(text), pytrace=False)
    except pytest.fail.Exception as failure:
        raise failure from None


def fail_with(error: Exception) -> NoReturn:
    """Fail the test with an error's kind and message, without a traceback through the plugin."""
    fail(f"{type(error).__name__}: {error}")


def skip(reason: str) -> NoReturn:
    """Skip the test."""
    pytest.skip(printable(reason, LONGEST_LINE))


def xfail(reason: str) -> NoReturn:
    """Report the test as an expected failure."""
    pytest.xfail(printable(reason, LONGEST_LINE))


def usage_error(error: Exception) -> pytest.UsageError:
    """The error as pytest's own, which ends the session before its first test."""
    return pytest.UsageError(inert(str(error)))


def collect_error(error: Exception) -> pytest.Collector.CollectError:
    """The error as one of the collection of a file."""
    return pytest.Collector.CollectError(inert(str(error)))


def header(lines: Iterable[str]) -> list[str]:
    """Lines that a hook of pytest's reporter returns."""
    return [printable(line, LONGEST_LINE) for line in lines]


def section(reporter: pytest.TerminalReporter, lines: Iterable[tuple[str, str]], **markup: Any) -> None:
    """Write a section with our name; *lines* come with a colour each, or with an empty text."""
    reporter.section("engram-bench", **markup)
    for text, colour in lines:
        for line in text.split("\n"):
            reporter.write_line(printable(line, LONGEST_LINE), **({colour: True} if colour else {}))


def error_line(reporter: pytest.TerminalReporter, message: str) -> None:
    """Write why the session was refused, as pytest writes a usage error."""
    for line in f"ERROR: {message}".split("\n"):
        reporter.write_line(printable(line, LONGEST_LINE), red=True)


def workflow(reporter: pytest.TerminalReporter, commands: Iterable[str]) -> None:
    """Write workflow commands of ``reporting.github``, whose values have passed the door."""
    for command in commands:
        reporter.write_line(command)


def progress(writer: Any, line: str, *, before: str = "", after: str = "") -> None:
    """Write a line of progress at once, between control characters of our own."""
    writer.write(before + printable(line, LONGEST_LINE) + after, flush=True)
