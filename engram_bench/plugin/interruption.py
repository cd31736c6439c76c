"""Ctrl-C, after which a session ends soon."""

from __future__ import annotations

import pytest

from engram_bench.plugin.handle import HANDLE


class Interruption:
    """Keeps pytest from wording the whole traceback of an interrupted session, of which it shows one line.

    For every frame, of which a session has a hundred, pytest parses the source of a whole module.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Leave the last visible entry of the traceback, unless the whole of it will be shown."""
        if self._config.option.fulltrace or self._config.stash[HANDLE].opened is None:
            return
        visible = [number for number, entry in enumerate(excinfo.traceback) if not entry.ishidden(excinfo)]
        if visible:
            excinfo.traceback = excinfo.traceback[visible[-1] : visible[-1] + 1]
