"""The session of a process, made when a pattern file or a fixture first needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import pytest

from engram_bench.errors import EngramBenchError, UnsupportedError
from engram_bench.plugin.items import candidate_name
from engram_bench.plugin.outlet import fail_with
from engram_bench.plugin.parts import part
from engram_bench.session.settings import Settings

if TYPE_CHECKING:
    from engram_bench.plugin.candidate import CandidateSession
    from engram_bench.plugin.session import BenchSession

T = TypeVar("T")


class SessionHandle:
    """What a session is made of, and the session once there is one."""

    def __init__(self, config: pytest.Config, settings: Settings, session: str) -> None:
        self.settings = settings
        self.opened: BenchSession | None = None
        """The session; None until it is needed."""
        self._config = config
        self._session = session

    def session(self) -> BenchSession:
        """The session, the same at every call."""
        if self.opened is None:
            self.opened = part("session")(self._config, self.settings, self._session)
        return self.opened

    def close(self) -> None:
        """Close models and stores; the session is made again where it is needed afterwards."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None


HANDLE: pytest.StashKey[SessionHandle] = pytest.StashKey()
"""Handle of this process on pytest's configuration."""


def session_of(config: pytest.Config) -> BenchSession:
    """The session of this process."""
    return config.stash[HANDLE].session()


def candidate_of(item: pytest.Item) -> CandidateSession:
    """The candidate that an item is about, or the first one."""
    return session_of(item.config).of(candidate_name(item))


def or_fail(work: Callable[[], T]) -> T:
    """What *work* gives; an error of this package becomes a failure without a traceback through the plugin."""
    try:
        return work()
    except UnsupportedError:
        raise
    except EngramBenchError as error:
        fail_with(error)
