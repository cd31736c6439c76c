"""Optional abilities of a processor and of the libraries on it, each found by trying it once.

Which instructions a processor has says little about what a library does with them: oneDNN refuses bfloat16 weights on some
processors, multiplies them by slow emulation on others, and may have settings of its own that forbid both. Therefore the code
that wants an ability hands :func:`find` a trial, and every trial is the very call that the work needs.

The environment variable ``ENGRAM_CAPABILITIES`` turns abilities off, so that every fallback can be tested on any machine:
``none`` for all of them, else a comma-separated list of the abilities that may be tried.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

SWITCH = "ENGRAM_CAPABILITIES"
Trial = Callable[[], str]
"""Uses an ability once; the reason why the result cannot be used, or an empty text. An exception is a reason as well."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether this machine has one ability."""

    name: str
    reason: str = ""
    """Why the ability is missing; empty where it is there."""

    @property
    def is_there(self) -> bool:
        """Whether the ability can be used."""
        return not self.reason


_FOUND: dict[str, Capability] = {}


def find(name: str, trial: Trial) -> Capability:
    """The ability *name*, tried at the first call in this process and remembered."""
    if name not in _FOUND:
        _FOUND[name] = Capability(name, switched_off(name) or _reason_of(trial))
    return _FOUND[name]


def switched_off(name: str) -> str:
    """Why the ability *name* may not be tried, known without a trial; empty where it may."""
    allowed = os.environ.get(SWITCH, "")
    if not allowed or name in map(str.strip, allowed.split(",")):
        return ""
    return f"switched off by {SWITCH}={allowed}"


def forget() -> None:
    """Let every ability be tried again, after the switch has changed."""
    _FOUND.clear()


def _reason_of(trial: Trial) -> str:
    try:
        return trial()
    except Exception as error:  # whatever an absent or changed operator raises is the answer
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
