"""What the benches of one session share, each made once: models, backends with their base weights, stores, examples."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from engram_bench.backends.protocol import Backend

T = TypeVar("T")


class Shared:
    """Parts by key, made when first asked for and closed by :meth:`close`."""

    def __init__(self) -> None:
        self.lifetimes = ExitStack()
        """Everything that is closed at the end, the latest first."""
        self._made: dict[Hashable, Any] = {}
        self._backends: dict[Hashable, Backend] = {}
        """The backend that was made first, which is that of the session's base model in most sessions, and the latest other."""

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What *make* gives, the same at every call with this key."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def backend(self, key: Hashable, make: Callable[[], Backend]) -> Backend:
        """The backend of this key, which stands for one base model.

        The weights of two base models are held at most, as the two sides of one candidate need no more: the first one stays, and
        another is closed before a third is made. What was closed is made again where it is needed again.
        """
        if key not in self._backends:
            for other in list(self._backends)[1:]:
                self._backends.pop(other).close()
            self._backends[key] = self.lifetimes.enter_context(closing(make()))
        return self._backends[key]

    @cached_property
    def scratch(self) -> Path:
        """An existing folder that is deleted at the end."""
        return Path(self.lifetimes.enter_context(TemporaryDirectory(prefix="engram-bench-")))

    def close(self) -> None:
        """Close what was made; closing loads nothing."""
        self.lifetimes.close()
