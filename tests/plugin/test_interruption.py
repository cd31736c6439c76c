"""Ctrl-C ends a session soon: of the traceback, pytest words the one line that it shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engram_bench.plugin.handle import HANDLE
from engram_bench.plugin.interruption import Interruption


def interrupt(depth: int) -> None:
    __tracebackhide__ = depth == 0
    if depth == 0:
        raise KeyboardInterrupt
    interrupt(depth - 1)


def interrupted(*, has_session: bool = True, fulltrace: bool = False) -> pytest.ExceptionInfo[BaseException]:
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupt(3)
    opened = object() if has_session else None
    config: Any = SimpleNamespace(
        option=SimpleNamespace(fulltrace=fulltrace), stash={HANDLE: SimpleNamespace(opened=opened)}
    )
    Interruption(config).pytest_keyboard_interrupt(caught)
    return caught


def test_of_the_traceback_the_last_visible_line_is_left() -> None:
    caught = interrupted()

    assert [(entry.name, entry.frame.f_locals["depth"]) for entry in caught.traceback] == [("interrupt", 1)]
    crash = caught.getrepr(funcargs=True).reprcrash
    assert crash is not None
    assert crash.message == "KeyboardInterrupt"


@pytest.mark.parametrize("given", [{"has_session": False}, {"fulltrace": True}], ids=["no session", "--full-trace"])
def test_the_traceback_stays_whole(given: dict[str, bool]) -> None:
    assert len(interrupted(**given).traceback) == 5
