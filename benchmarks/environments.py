"""Whether a session survives odd environments: ``python -m benchmarks.environments``.

A small project is run with the fake backend in each environment, twice, and once more in an ordinary one. An environment is
survived where no run shows a traceback, every run that can pass does, and the last run passes: nothing half-written is left.
Printed are the environments with what each run said; the exit status is 1 where one was not survived.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from tests import processes

PATTERNS = """name: facts
patterns:
  - {id: ssh, input: "Port of SSH – encrypted?", output: "22"}
  - {id: found, input: "Code of „Not Found“?", output: "404"}
  - {id: green, input: "Green in German?", output: "grün"}
"""
COMMAND = ("-m", "pytest", "-m", "accuracy", "--engram-backend=fake", "--engram-gate=accuracy >= 10%", "-q")
NUM_TESTS = 3
FUTURE_S = 4_000_000_000
"""A time in the year 2096 (POSIX)."""


@dataclass(frozen=True)
class Environment:
    """One way in which a machine may be odd."""

    name: str
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """Environment variables; None unsets one. ``{root}`` is the folder of the environment."""
    before: Callable[[Path], None] = lambda root: None
    """Prepares the folder before the second run."""
    inside: Callable[[], None] | None = None
    """Called in the process before it runs."""
    folder: str = "project"
    """Name of the project's folder."""
    disk_kb: int = 0
    """Size of the disk that the project and the cache share in the first runs; 0 is the machine's."""
    may_fail: bool = False
    """Whether the odd runs may end with an error, if it is one of ours."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run all chosen environments and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="Environments whose name has this in it. Default: all."
    )
    args = parser.parse_args(argv)
    rows = []
    for environment in ENVIRONMENTS:
        if args.only in environment.name:
            rows.append((environment.name, *survived(environment)))
            print(" | ".join(map(str, rows[-1])), flush=True)
    print(tabulate(rows, ("environment", "survived", "first run", "second run", "ordinary run afterwards")))
    good = sum(row[1] for row in rows)
    print(f"{good} of {len(rows)} environments survived")
    return 0 if good == len(rows) else 1


def survived(environment: Environment) -> tuple[bool, str, str, str]:
    """Whether the environment is survived, and the last line of each run."""
    root = Path(tempfile.mkdtemp(prefix="engram-bench-environment-"))
    try:
        if not environment.disk_kb:
            _make_project(root / environment.folder)
        first = _run(root, environment)
        environment.before(root)
        second = _run(root, environment)
        _undo(root)
        if environment.disk_kb:
            _make_project(root / environment.folder)
        last = _run(root, Environment("ordinary", folder=environment.folder))
    finally:
        _undo(root)
        shutil.rmtree(root, ignore_errors=True)
    odd = (first, second)
    no_traceback = all("Traceback" not in output and "INTERNALERROR" not in output for _, output in (*odd, last))
    passed = all(_has_passed(run) for run in (*odd, last)) if not environment.may_fail else _has_passed(last)
    return no_traceback and passed, _last_line(first), _last_line(second), _last_line(last)


def _run(root: Path, environment: Environment) -> tuple[int, str]:
    """Exit status and output of one session."""
    folder = root / environment.folder
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "ENGRAM_BENCH_CACHE": str(root / "cache")}
    for name, value in environment.variables.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value.format(root=root)
    command = [sys.executable, *COMMAND]
    if environment.disk_kb:
        (root / "disk").mkdir(exist_ok=True)
        folder = root / "disk"
        variables["ENGRAM_BENCH_CACHE"] = str(folder / "cache")
        (root / "facts.yaml").write_text(PATTERNS, "utf-8")
        script = (
            f'mount -t tmpfs -o size={environment.disk_kb}k tmpfs "$0" && cd "$0" && mkdir patterns'
            ' && cp ../facts.yaml patterns/ && "$@"'
        )
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(folder), *command]
    done = subprocess.run(
        command,
        cwd=folder,
        env=variables,
        preexec_fn=environment.inside,  # no threads here
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _has_passed(run: tuple[int, str]) -> bool:
    return run[0] == 0 and f"{NUM_TESTS} passed" in run[1]


def _last_line(run: tuple[int, str]) -> str:
    lines = [line for line in run[1].splitlines() if line.strip()]
    return f"{run[0]}: {lines[-1][:60] if lines else ''}"


def _make_project(folder: Path) -> None:
    (folder / "patterns").mkdir(parents=True, exist_ok=True)
    (folder / "patterns" / "facts.yaml").write_text(PATTERNS, "utf-8")


def _forbid_writing(root: Path, *names: str) -> None:
    for name in names:
        for path in [root / name, *(root / name).rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)


def _undo(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
            if os.geteuid() == 0:
                os.chown(path, 0, 0)


def _move_to_the_future(root: Path) -> None:
    """What every file looks like after the clock was set back."""
    for path in root.rglob("*"):
        os.utime(path, (FUTURE_S, FUTURE_S))


def _give_away(root: Path) -> None:
    """The cache belongs to somebody else who keeps it closed."""
    for path in [root / "cache", *(root / "cache").rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)


def _fill_store(root: Path) -> None:
    """The completion store is what a crash of the machine left: noise."""
    for path in (root / "cache").rglob("completions.sqlite"):
        path.write_bytes(b"\xff" * 9000)


def _obey(umask: int = 0o022) -> Callable[[], None]:
    def inside() -> None:
        os.umask(umask)
        processes._obey_permissions()

    return inside


def _with_few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))


ENVIRONMENTS = (
    Environment("ordinary"),
    Environment("disk full", disk_kb=24, may_fail=True),
    Environment("nearly full disk", disk_kb=96, may_fail=True),
    Environment(  # whose reports cannot be saved, which is an error and exit status 1
        "read-only project", before=lambda root: _forbid_writing(root, "project"), inside=_obey(), may_fail=True
    ),
    Environment("read-only cache", before=lambda root: _forbid_writing(root, "cache"), inside=_obey()),
    Environment("cache of another user", before=_give_away, inside=_obey()),
    Environment("no HOME", {"HOME": None, "ENGRAM_BENCH_CACHE": None, "XDG_CACHE_HOME": "{root}/cache"}),
    Environment(
        "a HOME that there is not", {"HOME": "/proc/nowhere", "ENGRAM_BENCH_CACHE": None, "XDG_CACHE_HOME": None}
    ),
    Environment("no TMPDIR", {"TMPDIR": "/nowhere", "TEMP": None, "TMP": None}),
    Environment("clock set back", before=_move_to_the_future),
    Environment("umask 077", inside=_obey(0o077)),
    Environment("umask 000", inside=_obey(0)),
    Environment(
        "locale that is not UTF-8", {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    Environment("ASCII terminal", {"PYTHONIOENCODING": "ascii", "TERM": "dumb"}),
    Environment("damaged completion store", before=_fill_store),
    Environment("few open files", inside=_with_few_files),
    Environment("odd folder", folder="a (b) 'c' %d ü"),
)


if __name__ == "__main__":
    raise SystemExit(main())
