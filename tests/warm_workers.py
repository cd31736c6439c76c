"""Workers of pytest-xdist that are forks of one warm process.

A session with two workers starts Python twice and imports pytest, numpy and this package in each: two seconds of processor
time, of which the session itself is a tenth. Here one process has imported them, and each worker is a fork of it: a process
of its own, over its own pipes, as pytest-xdist means it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BOOTSTRAP = ["-u", "-c", "import sys;exec(eval(sys.stdin.readline()))"]
"""Arguments with which execnet, on which pytest-xdist builds, starts Python."""

STARTER = """\
#!{python} -IS
import json, os, socket, sys
if sys.argv[1:] != {bootstrap!r}:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect({address!r})
    asked = json.dumps([os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(warm, [len(asked).to_bytes(4, "big") + asked], [0, 1, 2])
    warm.recv(1)
"""
"""Program that stands for Python: it hands its pipes to the warm process and waits for the worker's end."""


@contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """A program that is Python, and a fork of a warm one where pytest-xdist starts a worker with it.

    Args:
        folder: Folder for the program and its socket. Its path is short, as a socket's must be.
    """
    address, starter = folder / "warm", folder / "python"
    starter.write_text(STARTER.format(python=sys.executable, bootstrap=BOOTSTRAP, address=str(address)), "ascii")
    starter.chmod(0o700)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(address)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as warm:
        assert warm.stdout is not None
        assert warm.stdout.readline() == b"warm\n"
        yield starter
        warm.communicate()  # closes its standard input, at which it ends


def _serve(address: str) -> None:
    _import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("warm", flush=True)
        while True:
            ready, _, _ = select.select([sys.stdin, listener], [], [])
            if sys.stdin in ready:
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _become_worker(connection)
            connection.close()


def _import_everything() -> None:
    import numpy  # noqa: F401
    import pydantic  # noqa: F401
    import pytest  # noqa: F401
    import xdist.remote  # type: ignore[import-untyped]  # noqa: F401
    import yaml  # noqa: F401

    from tests.conftest import import_modules_of

    import_modules_of("engram_bench")
    plugins = ("engram_bench.plugin", "xdist", "pytest_benchmark", "tests")
    for name in [name for name in sys.modules if name.startswith(plugins)]:
        del sys.modules[name]  # pytest warns of a plugin that was there before it could rewrite its assertions


def _become_worker(connection: socket.socket) -> None:
    """Run what execnet sends over the pipes that came through the connection, which tells by its end of this process's."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, pipes, _, _ = socket.recv_fds(connection, 4, 3)
    length = int.from_bytes(head, "big")
    asked = b""
    while len(asked) < length:
        asked += connection.recv(length - len(asked))
    folder, environment = json.loads(asked)
    for number, pipe in enumerate(pipes):
        os.dup2(pipe, number)
        os.close(pipe)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["-c"]
    sys.path[:] = ["", *(entry for entry in sys.path if entry != str(Path(__file__).parent))]
    exec(eval(sys.stdin.readline()), {"__name__": "__main__"})
    raise SystemExit


if __name__ == "__main__":
    _serve(sys.argv[1])
