"""Regular expressions of somebody else's configuration, matched in bounded time."""

from __future__ import annotations

import json
import re
import reprlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engram_bench.errors import AdapterError
from engram_bench.system.reading import parse_json

MAX_PATTERNS, MAX_PATTERN_LENGTH = 2000, 1000
SECONDS = 10.0
"""Time that the regular expressions of a configuration may take; a hostile one takes for ever."""

_TAME = re.compile(r"[\w.\-]*")
"""Patterns without a repeat: their time is bounded."""
_WORKER = (
    "import json, re, sys\n"
    "patterns, names = json.load(sys.stdin)\n"
    "found = [[getattr(re, how)(p, n) for n in names] for how, p in patterns]\n"
    "json.dump([[m and (m.groupdict().get('idx') or '') for m in row] for row in found], sys.stdout)\n"
)


@dataclass(frozen=True, slots=True)
class Expression:
    """A regular expression of a configuration."""

    written: str
    """The expression as it stands in the configuration."""
    whole: str
    """The expression as PEFT matches it against module paths."""
    how: str = "match"
    """Function of ``re`` that matches: ``match`` or ``fullmatch``."""

    @property
    def is_valid(self) -> bool:
        """Whether Python takes the expression."""
        try:
            re.compile(self.whole)
        except (re.error, OverflowError, RecursionError):
            return False
        return True

    def found_in(self, names: Sequence[str]) -> list[str | None]:
        """The group ``idx`` of the match of each name, or an empty text; None without a match."""
        matches = [getattr(re, self.how)(self.whole, name) for name in names]
        return [match and (match.groupdict().get("idx") or "") for match in matches]


def matches(path: Path, key: str, patterns: Sequence[Expression], names: Sequence[str]) -> list[list[str | None]]:
    """:meth:`Expression.found_in` of each pattern, in bounded time.

    Raises:
        AdapterError: A pattern is no regular expression, or matching takes too long.
    """
    if len(patterns) > MAX_PATTERNS or any(len(each.written) > MAX_PATTERN_LENGTH for each in patterns):
        most = f"{MAX_PATTERNS} of {MAX_PATTERN_LENGTH} characters"
        msg = f"{path}: {key} has {len(patterns)} patterns, expected at most {most}"
        raise AdapterError(msg)
    for each in patterns:
        try:
            re.compile(each.whole)
        except (re.error, OverflowError, RecursionError) as error:
            msg = f"{path}: {key} has {reprlib.repr(each.written)}, expected a regular expression ({error})"
            raise AdapterError(msg) from error
    if all(_TAME.fullmatch(each.written) for each in patterns):
        return [each.found_in(names) for each in patterns]
    try:
        # A process of its own, because Python cannot interrupt a match.
        ran = subprocess.run(
            [sys.executable, "-I", "-c", _WORKER],
            input=json.dumps([[[each.how, each.whole] for each in patterns], list(names)]),
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        msg = f"{path}: {key} takes over {SECONDS:.0f} s to match, expected regular expressions without nested repeats"
        raise AdapterError(msg) from error
    found: list[list[str | None]] = parse_json(ran.stdout)
    return found
