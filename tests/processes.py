"""Real processes in real trouble: a full disk, a folder without write permission, a signal in the middle."""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs *code*; ``sys.argv[1:]`` are the *arguments*."""
    return subprocess.Popen(
        _command(code, arguments),
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509  # no threads here
    )


def _hear_interrupts() -> None:
    """Undo what a shell does to jobs in the background: they and their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_python(code: str, *arguments: object) -> str:
    """What the code prints; fails unless it exits with 0."""
    return _output(_command(code, arguments))


def run_python_without_permission(code: str, *arguments: object) -> str:
    """What the code prints when permission bits hold for root too."""
    if sys.platform != "linux" and os.geteuid() == 0:
        pytest.skip("root ignores permissions here")
    return _output(_command(code, arguments), _obey_permissions)


def run_python_with_file_limit(limit: int, code: str, *arguments: object) -> str:
    """What the code prints where no file can grow beyond *limit* bytes."""
    return _output(_command(code, arguments), lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))


def run_python_on_small_disk(folder: Path, size_kb: int, code: str, *arguments: object) -> str:
    """What the code prints where *folder* is a disk of its own of *size_kb*; the disk is gone afterwards."""
    mount = ["sh", "-c", f'mount -t tmpfs -o size={size_kb}k tmpfs "$0" && exec "$@"', str(folder)]
    own_mounts = ["unshare", "--map-root-user", "--mount"]
    tried = shutil.which("unshare") and subprocess.run([*own_mounts, *mount, "true"], capture_output=True, check=False)
    if not tried or tried.returncode:
        pytest.skip("needs the right to mount a tmpfs in a namespace")
    return _output([*own_mounts, *mount, *_command(code, arguments)])


def wait_for(path: Path, timeout_s: float = 30.0) -> None:
    """Return once another process has made the file."""
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear within {timeout_s} s"
        time.sleep(0.01)


def _command(code: str, arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}


def _output(command: list[str], before: Callable[[], None] | None = None) -> str:
    process = subprocess.run(
        command, env=_environment(), preexec_fn=before, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def _obey_permissions() -> None:
    """Drop the two capabilities that let root read and write everything; they are gone after exec."""
    if os.geteuid() == 0:
        prctl_capbset_drop, dac_override, dac_read_search = 24, 1, 2
        for capability in (dac_override, dac_read_search):
            ctypes.CDLL(None).prctl(prctl_capbset_drop, capability, 0, 0, 0)
