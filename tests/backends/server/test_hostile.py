"""A server that does its worst: a fast sample of ``benchmarks/hostile_server.py``, Ctrl-C, and threads that hang."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.hostile_server import MODES, HostileServer, Mode, run, silence
from engram_bench.backends.server import replies
from engram_bench.backends.server.threads import Overdue, in_threads
from engram_bench.backends.server.wire import Reply

SLOW = {
    "503, then fine",
    "Retry-After nan",
    "a key twice among 150,000",
    "a million models",
    "endless 1xx",
    "half a million empty lists",
    "headers of 20 MB",
    "models drip",
    "trailers drip",
    "question not read",
}
"""Modes that take half a second or more, left to the script."""
SAMPLE = [mode for mode in MODES if mode.name not in SLOW]


@pytest.mark.parametrize("mode", SAMPLE, ids=[mode.name for mode in SAMPLE])
def test_a_hostile_server_gets_an_answer_or_one_clear_error(mode: Mode) -> None:
    outcome = run(mode, timeout_s=0.4)

    assert outcome.faults == (), outcome.words


def test_there_are_at_least_forty_modes_and_the_promise_counts_them() -> None:
    assert len({mode.name for mode in MODES}) == len(MODES) >= 40
    assert f"runs {len(MODES)} ways to misbehave" in (Path(__file__).parents[3] / "SECURITY.md").read_text("utf-8")


ASK = """
import signal, sys
from engram_bench.backends.server.chat_api import ChatApi
from engram_bench.records import GenerationSettings, Prompt
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
try:
    ChatApi(sys.argv[1], timeout_s=60).complete("bare", [Prompt("a"), Prompt("b")], GenerationSettings())
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_ctrl_c_ends_requests_within_two_seconds() -> None:
    with HostileServer(Mode("silence", silence)) as server:
        command = [sys.executable, "-c", ASK, f"http://127.0.0.1:{server.port}"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                end = time.monotonic() + 30
                while server.asked < 2 and time.monotonic() < end:
                    time.sleep(0.02)
                interrupted = time.monotonic()
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=30)
            finally:
                process.kill()

    assert process.returncode == 7, told
    assert time.monotonic() - interrupted < 2
    assert told == ""


def test_work_that_cannot_be_interrupted_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a host that nobody resolves keeps a thread for half a minute."""
    monkeypatch.setattr("engram_bench.backends.server.threads.GRACE_S", 0.05)
    released = threading.Event()
    started = time.monotonic()

    with pytest.raises(Overdue):
        in_threads([lambda: released.wait(30)], workers=1, limit_s=0.05, stopped=threading.Event())

    assert time.monotonic() - started < 5
    released.set()


def test_the_first_failure_stops_what_waits() -> None:
    stopped = threading.Event()
    done: list[int] = []

    def fail() -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        in_threads([fail, *[lambda: done.append(1)] * 1000], workers=1, limit_s=60, stopped=stopped)

    assert stopped.is_set()
    assert done == []


@pytest.mark.parametrize(
    ("headers", "pause"),
    [({"retry-after": "2.5"}, 2.5), ({"retry-after": "-1"}, 0.0), ({"retry-after": "nan"}, None), ({}, None)],
    ids=["seconds", "negative", "no number", "none"],
)
def test_a_wish_to_wait_is_a_number_or_nothing(headers: dict[str, str], pause: float | None) -> None:
    assert replies.pause_of(Reply(429, headers)) == pause
