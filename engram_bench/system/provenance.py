"""Origin of figures: commit, machine, command, time and library versions. None of those libraries is imported."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from engram_bench.door import HIDDEN, scrubbed
from engram_bench.system.reading import read_text

LIBRARIES = (
    "engram-bench",
    "pytest",
    "numpy",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "peft",
    "mlx",
    "mlx-lm",
    "unsloth",
)
"""Distributions whose versions can change a figure."""

_SECRET_NAME = re.compile(r"(?i)(?:^|[-_])(?:token|secret|password|passwd|pwd|key|apikey|credentials?|auth)$")
_SECRET_VALUE = re.compile(
    r"(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|AKIA)[A-Za-z0-9_-]{8,}"  # tokens that say what they are
    r"|(?<=://)[^/?#\s]+(?=@)"  # user:password of a URL
)


def utc_now() -> str:
    """The current time in UTC as ISO 8601 to the second: ``2026-05-04T13:37:00Z``."""
    return in_utc(datetime.now(UTC))


def in_utc(moment: datetime) -> str:
    """A moment with a time zone, in the format of :func:`utc_now`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def git_commit(folder: Path | None = None) -> str:
    """Short commit hash of the checkout around *folder*, with ``-dirty`` where a tracked file has changes.

    The hash is empty outside git, before the first commit and without a ``git`` command. Untracked files do not count, so
    the reports of one session do not make the next session dirty.

    Args:
        folder: Folder inside the checkout; None takes the current folder.
    """
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # a query must not make another process's commit fail
    try:
        answer = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def machine() -> str:
    """Processor, usable cores, system: ``AMD EPYC 7B13, 2 of 8 cores, Linux 6.1 x86_64``; never the host's name."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    cores = f"{usable} of {total} cores" if usable < total else f"{total} cores"
    return f"{_processor()}, {cores}, {platform.system()} {platform.release()} {platform.machine()}"


def command_line(argv: Sequence[str] | None = None) -> str:
    """The command as a user would type it again, ``pytest -m accuracy``, without secrets and the home folder's name.

    Args:
        argv: Program and arguments; None takes ``sys.argv``.

    Returns:
        The program's name without its folder and the arguments, quoted for a shell. A value of an option, variable or
        URL that looks like a password, key or token is ``HIDDEN``; the home folder is ``~``.
    """
    program, *arguments = sys.argv if argv is None else argv
    text = scrubbed(" ".join([_program(program), *(shlex.quote(argument) for argument in _without_secrets(arguments))]))
    home = str(Path.home())
    return re.sub(re.escape(home) + r"(?=[/\\'\"\s:,]|$)", "~", text) if len(home) > 1 else text


def library_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Name → version of Python and of each installed distribution among *names*."""
    found = {name: _installed_version(name) for name in names}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


@cache
def _installed_version(name: str) -> str | None:
    """Version of a distribution, looked up once: what is installed does not change under a running process."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
    try:
        text = read_text(Path("/proc/cpuinfo"), errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or "unknown processor"


def _program(path: str) -> str:
    """The command that starts a program: ``python -m pytest`` for ``…/pytest/__main__.py``, else the file's name."""
    program = Path(path)
    if program.name == "__main__.py":
        return f"python -m {program.parent.name}"
    return shlex.quote(program.name.removesuffix(".exe")) if path else "python"


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append(HIDDEN)
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(_SECRET_VALUE.sub(HIDDEN, argument))
        hide_next = argument.startswith("-") and not equals and bool(_SECRET_NAME.search(name))
    return shown
