"""Whether any changed file ends in a raw traceback, a hang or gigabytes: ``python -m benchmarks.fuzz``.

Seven kinds of whole files (see :mod:`benchmarks.fuzz_targets`) are changed by a seeded random source, 1,000 times each, and
read as the package reads them, in a process of their own that has a limit of time for each input. Printed are, for each kind,
how many were read, refused with an error of the package, or ended in a fault; the slowest input; and the most memory above
that of the whole files. The exit status is 1 after a fault.

``--kind store --number 17`` repeats one input with its traceback.
"""

from __future__ import annotations

import argparse
import json
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from benchmarks.fuzz_targets import TARGETS, try_one

LIMIT_S = 10.0
"""Longest that one input may take; what has a limit of its own, such as a regular expression, stays below it."""
LIMIT_BYTES = 6 * 2**30
"""Address space of a process, so that a fault cannot take the machine with it."""


@dataclass
class Tally:
    """Outcomes of one kind."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    """Number of the first input of each fault."""
    slowest: tuple[float, int] = (0.0, -1)
    """Seconds and number of the slowest input."""
    largest: tuple[float, int] = (0.0, -1)
    """Memory above the whole files (MB) and number of the largest input."""

    def add(self, number: int, verdict: str, reason: str, seconds: float, memory_mb: float) -> None:
        """Count one outcome."""
        self.counts[verdict] += 1
        if verdict == "fault":
            self.faults[reason] += 1
            self.first.setdefault(reason, number)
        self.slowest = max(self.slowest, (seconds, number))
        self.largest = max(self.largest, (memory_mb, number))


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the chosen kinds and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--each", type=int, default=1000, metavar="N", help="Inputs of each kind. Default: 1000.")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="Seed of all changes. Default: 0.")
    parser.add_argument("--kind", action="append", choices=[*TARGETS], help="Kind of file; repeatable. Default: all.")
    parser.add_argument(
        "--number", type=int, metavar="N", help="Repeat this input of the kind, and show its traceback."
    )
    parser.add_argument("--work", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    kinds = args.kind or [*TARGETS]
    if args.work:
        return _work(kinds[0], args.seed, Path(args.work))
    if args.number is not None:
        return _repeat(kinds[0], args.number, args.seed)
    tallies = {}
    for kind in kinds:
        tallies[kind] = tally(kind, range(args.each), args.seed)
        print(f"{kind}: {dict(tallies[kind].counts)} {dict(tallies[kind].first)}", file=sys.stderr, flush=True)
    rows = [
        (
            kind,
            found.counts.total(),
            found.counts["read"],
            found.counts["refused"],
            found.counts["fault"],
            f"{found.slowest[0]:.2f} (input {found.slowest[1]})",
            f"{found.largest[0]:.0f} (input {found.largest[1]})",
        )
        for kind, found in tallies.items()
    ]
    print(tabulate(rows, ("kind", "inputs", "read", "refused", "faults", "slowest, s", "memory above whole files, MB")))
    for kind, found in tallies.items():
        for reason, count in found.faults.most_common():
            print(f"{kind}: {count} × {reason} (first: input {found.first[reason]})")
    faults = sum(found.counts["fault"] for found in tallies.values())
    print(f"{faults} of {sum(found.counts.total() for found in tallies.values())} ended in a raw traceback or a hang")
    return 1 if faults else 0


def tally(kind: str, numbers: Sequence[int], seed: int) -> Tally:
    """The outcomes of these inputs, each tried in a process that is ended when it takes too long."""
    found = Tally()
    with tempfile.TemporaryDirectory(prefix="engram-bench-fuzz-") as folder:
        todo = list(numbers)
        while todo:
            for number, verdict, reason, seconds, memory_mb in _outcomes(kind, todo, seed, Path(folder)):
                found.add(number, verdict, reason, seconds, memory_mb)
                todo.remove(number)
    return found


def _outcomes(
    kind: str, numbers: Sequence[int], seed: int, folder: Path
) -> Iterator[tuple[int, str, str, float, float]]:
    """The outcomes of one process, which ends early where an input hangs or the process dies."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--kind", kind, "--seed", str(seed), "--work", str(folder)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            if not selector.select(120.0) or not worker.stdout.readline():
                msg = f"{kind}: the whole files cannot be read, see above"
                raise SystemExit(msg)
            for number in numbers:
                started = time.perf_counter()
                worker.stdin.write(f"{number}\n")
                worker.stdin.flush()
                line = worker.stdout.readline() if selector.select(LIMIT_S) else None
                seconds = time.perf_counter() - started
                if line is None:
                    yield number, "fault", f"still at it after {LIMIT_S:g} s", seconds, 0.0
                    return
                if not line:
                    yield number, "fault", f"the process ended with status {worker.wait()}", seconds, 0.0
                    return
                verdict, reason, memory_mb = json.loads(line)
                yield number, verdict, reason, seconds, memory_mb
    finally:
        worker.kill()
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()


def _work(kind: str, seed: int, folder: Path) -> int:
    """Try the inputs whose numbers stand on standard input, one a line."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    whole = folder / "whole"
    if not whole.exists():
        whole.mkdir()
        TARGETS[kind].make(whole)
    _use_whole(kind, whole, folder / "first")
    sound = _peak_mb()
    print("ready", flush=True)
    for line in sys.stdin:
        _reset_peak()
        outcome = try_one(kind, int(line), seed, whole, folder / "input")
        print(json.dumps((outcome.verdict, outcome.reason, max(0.0, _peak_mb() - sound))), flush=True)
    return 0


def _use_whole(kind: str, whole: Path, folder: Path) -> None:
    """Read the files as they are: everything is imported, and no error is the reader's own."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    for adapter in folder.glob("peft"):
        adapter.rename(folder / "adapter")
    TARGETS[kind].use(folder)


def _repeat(kind: str, number: int, seed: int) -> int:
    """Try one input without catching anything, and leave its files."""
    import random

    folder = Path(tempfile.mkdtemp(prefix="engram-bench-fuzz-"))
    whole, spoilt = folder / "whole", folder / "input"
    whole.mkdir()
    spoilt.mkdir()
    TARGETS[kind].make(whole)
    TARGETS[kind].spoil(whole, spoilt, random.Random(f"{kind} {number} {seed}"))
    print(f"files: {spoilt}", flush=True)
    TARGETS[kind].use(spoilt)
    return 0


def _reset_peak() -> None:
    """Let the peak of the resident memory count from now on (proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
