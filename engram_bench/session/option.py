"""One option of pytest, of the ini file and of the command line, from one declaration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engram_bench.errors import UsageError

PREFIX = "--engram-"
"""Prefix of the flags among pytest's options; on the command line the prefix is ``--``."""
UNSET: tuple[Any, ...] = (None, "", [], False)
"""Values of a flag or an ini key that count as not given."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: ``--engram-NAME`` and ini key ``engram_NAME`` in pytest, ``--NAME`` on the command line."""

    name: str
    help: str
    """What the option does, with its unit; the default is added by :attr:`full_help`."""
    default: str | tuple[str, ...] | bool
    parse: Callable[[str], Any] = str
    """Text → value; raises ValueError with what was expected."""
    metavar: str = "TEXT"
    bare: str | None = None
    """The value of a flag that is given without one; None demands a value."""

    @property
    def action(self) -> Literal["store", "append", "store_true"]:
        """The action of argparse, which follows from the type of the default."""
        if isinstance(self.default, bool):
            return "store_true"
        return "append" if isinstance(self.default, tuple) else "store"

    @property
    def field(self) -> str:
        """Name of the field in :class:`Settings`."""
        return self.name.replace("-", "_")

    @property
    def dest(self) -> str:
        """Name of the value in a namespace and of the ini key."""
        return f"engram_{self.field}"

    def declare(self, add: Callable[..., Any], *, prefix: str = PREFIX, alias: Sequence[str] = ()) -> None:
        """Declare the flag through argparse's or pytest's *add* function, unset by default so that ini keys count."""
        keywords: dict[str, Any] = {"dest": self.dest, "default": None, "action": self.action, "help": self.full_help}
        if self.action != "store_true":
            keywords["metavar"] = self.metavar
        if self.bare is not None:
            keywords |= {"nargs": "?", "const": self.bare}
        add(f"{prefix}{self.name}", *alias, **keywords)

    @property
    def full_help(self) -> str:
        """The help text with the default at its end."""
        if self.action == "store_true":
            return self.help
        shown = ", ".join(self.default) if isinstance(self.default, tuple) else self.default
        return f"{self.help} Default: {shown or 'none'}."

    def is_given(self, flag: Any, ini: Any) -> bool:
        """Whether the flag or the ini key has a value."""
        return any(given not in UNSET for given in (flag, ini))

    def read(self, flag: Any, ini: Any, *, prefix: str = PREFIX) -> Any:
        """The value from the flag, else the ini key, else the default; None and empty count as not given.

        Raises:
            UsageError: The text cannot be read; names the flag or ini key, quotes it, says what was expected.
        """
        for given, where in ((flag, f"{prefix}{self.name}"), (ini, f"ini key {self.dest}")):
            if given not in UNSET:
                return self._parse_all(given, where)
        return self._parse_all(self.default, "default")

    def _parse_all(self, given: Any, where: str) -> Any:
        if isinstance(given, bool):
            return given
        if self.action == "append":
            return tuple(self._parse_one(text, where) for text in given)
        return self._parse_one(given, where)

    def _parse_one(self, text: str, where: str) -> Any:
        try:
            return self.parse(text)
        except ValueError as error:
            msg = f"{where}: got {text!r}, expected {error}"
            raise UsageError(msg) from error
