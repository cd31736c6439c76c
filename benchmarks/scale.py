"""How the suite grows and what it costs where it has nothing to do: ``python -m benchmarks.scale`` prints the rows.

collect   ``pytest --collect-only --engram-items=category`` of 100,000 patterns in a JSONL file
answer    the bare model's answers to 10,000 patterns and to 131, each in a process of its own: cost of a pattern, peak memory
start     pytest in an empty project, with the plugin and with ``-p no:``, in turn
cached    ``pytest -m accuracy`` with adapter and answers stored and ``pytest --collect-only``, in turn

Every command is a process of its own. Processor seconds stand beside the wall's: on a machine with other work to do they
are the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from tabulate import tabulate

from engram_bench.models import default_cache_dir
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.load import load_pattern_file
from engram_bench.records import Pattern, PatternSet, SourceLine
from engram_bench.session.bench import Bench
from engram_bench.session.reading import read_settings
from engram_bench.system import provenance

PROJECT = Path(__file__).parent.parent
PLUGIN = "engram_bench.plugin"
FEW = 131
CATEGORIES = 50
HEADER = ("what", "wall s", "processor s", "peak MB", "")


@dataclass(frozen=True)
class Spent:
    """What a process used."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default: {' '.join(PARTS)}")
    parser.add_argument("--patterns", type=int, default=100_000, help="of the file that is collected")
    parser.add_argument("--many", type=int, default=10_000, help="patterns that are answered")
    parser.add_argument("--max-tokens", type=int, default=8, help="of an answer")
    parser.add_argument("--pairs", type=int, default=12, help="of runs in turn")
    parser.add_argument("--adapter", default="auto", help="of `cached`: a stored one, else it is trained first")
    parser.add_argument("--answer", type=int, help=argparse.SUPPRESS)  # in a process of its own: this many
    given = parser.parse_args(arguments)
    if given.answer:
        print(json.dumps(answer(given.answer, given.max_tokens)))
        return
    unknown = {*given.parts} - {*PARTS}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    print(f"{provenance.machine()}; commit {provenance.git_commit()}; {provenance.utc_now()[:10]}")
    rows = [row for part in given.parts or PARTS for row in PARTS[part](given)]
    print(tabulate(rows, headers=HEADER, tablefmt="github", disable_numparse=True))


# ── collecting ──────────────────────────────────────────────────────────────────────────────────


def collecting(given: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        write_patterns(Path(folder, "patterns"), given.patterns)
        spent = pytest_run(["--collect-only", "-q", "--engram-items=category"], Path(folder))
    yield row(f"collect {given.patterns:,} patterns", spent, spent.output.strip().splitlines()[-1])


def write_patterns(folder: Path, number: int) -> None:
    """A JSONL file of *number* patterns in categories."""
    folder.mkdir()
    with (folder / "many.jsonl").open("w", encoding="utf-8") as lines:
        for index in range(number):
            topic = f"topic {index % CATEGORIES:02d}"
            pattern = {
                "input": f"What is code {index} of {topic} called?",
                "output": f"name-{index}",
                "category": topic,
            }
            lines.write(json.dumps(pattern) + "\n")


# ── answering ───────────────────────────────────────────────────────────────────────────────────


def answering(given: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    costs = []
    for number in (FEW, given.many):
        command = [sys.executable, "-m", "benchmarks.scale", f"--answer={number}", f"--max-tokens={given.max_tokens}"]
        spent = process(command, PROJECT)
        told = json.loads(spent.output.splitlines()[-1])
        costs.append(told["cpu_s"] / number)
        told_of = Spent(told["wall_s"], told["cpu_s"], spent.peak_mb)
        yield row(f"answer {number:,} patterns", told_of, f"{1000 * costs[-1]:.1f} processor ms each")
    yield ("cost of a pattern, many / few", "", f"{costs[1] / costs[0]:.3f}×", "", "")


def answer(number: int, max_tokens: int) -> dict[str, float]:
    """Seconds of answering *number* different prompts, made of the shipped ones, by the bare model on ``cpu``.

    Loading is left out: eight prompts are answered before.
    """
    flags = {
        "engram_backend": "cpu",
        "engram_adapter": "none",
        "engram_no_cache": True,
        "engram_max_tokens": str(max_tokens),
    }
    settings = read_settings(flags, {}, root=PROJECT, cwd=PROJECT)
    shipped = [load_pattern_file(path) for path in find_pattern_files([PROJECT / "patterns"])]
    prompts = [pattern.input for each in shipped if each.kind == "memory" for pattern in each.patterns]
    patterns = tuple(
        Pattern(
            f"p{index}", f"{prompts[index % FEW]} ({index:05d})", "no draft", "all", SourceLine("many.jsonl", index + 1)
        )
        for index in range(number)
    )
    with Bench(settings, (PatternSet("many", "many.jsonl", patterns=patterns),), default_cache_dir()) as bench:
        questions = bench.questions(accuracy_cases(bench.sets[0]))
        bench.answer(bench.questions(accuracy_cases(warm_set(patterns))), "baseline")
        wall, cpu = time.perf_counter(), time.process_time()
        bench.answer(questions, "baseline")
        return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def warm_set(patterns: Sequence[Pattern]) -> PatternSet:
    """Eight prompts that are none of *patterns*."""
    others = (Pattern(f"w{p.id}", f"{p.input} Hm?", p.output, p.category, p.source) for p in patterns[:8])
    return PatternSet("warm", "warm.jsonl", patterns=tuple(others))


# ── starting ────────────────────────────────────────────────────────────────────────────────────


def starting(given: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)

        def arm(*arguments: str) -> Callable[[], Spent]:
            return lambda: pytest_run([*arguments, "-q", "--collect-only"], empty, status=5)

        yield from in_turn("start in an empty project", "with -p no:", arm(), arm("-p", f"no:{PLUGIN}"), given.pairs)


def cached(given: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    selected = ["-m", "accuracy", "patterns", f"--engram-adapter={given.adapter}"]
    with tempfile.TemporaryDirectory() as folder:
        asked = [*selected, "--engram-gate=accuracy >= 0%", "--engram-gate-only", f"--engram-report-dir={folder}", "-q"]
        pytest_run(asked, PROJECT)  # trains and answers what is not stored
        torch = pytest_run(asked, PROJECT, probe="torch").output.splitlines()[-1]
        yield from in_turn(
            "accuracy, all stored",
            "collected only",
            lambda: pytest_run(asked, PROJECT),
            lambda: pytest_run([*selected, "--collect-only", "-q"], PROJECT),
            given.pairs,
        )
    yield ("torch imported", torch, "", "", "")


def in_turn(
    name: str, other: str, one: Callable[[], Spent], two: Callable[[], Spent], pairs: int
) -> Iterator[tuple[str, ...]]:
    """Rows of medians of both variants, measured A B B A …, and of the differences within pairs."""
    one(), two()  # files of both come into the page cache
    found: list[tuple[Spent, Spent]] = []
    for number in range(pairs):
        first, second = (one, two) if number % 2 == 0 else (two, one)
        spent = first(), second()
        found.append(spent if number % 2 == 0 else spent[::-1])
    for label, arm in ((name, 0), (f"{name}: {other}", 1)):
        sides = [pair[arm] for pair in found]
        middle = Spent(*(median(getattr(side, field) for side in sides) for field in ("wall_s", "cpu_s", "peak_mb")))
        yield row(label, middle, f"median of {pairs}")
    wall, cpu = (median(getattr(a, field) - getattr(b, field) for a, b in found) for field in ("wall_s", "cpu_s"))
    yield (f"{name}: difference", f"{1000 * wall:+.0f} ms", f"{1000 * cpu:+.0f} ms", "", f"median of {pairs} pairs")


# ── processes ───────────────────────────────────────────────────────────────────────────────────


def pytest_run(arguments: Sequence[str], folder: Path, *, status: int = 0, probe: str = "") -> Spent:
    """A pytest of its own in *folder*; with *probe* its last line says whether that module was imported."""
    program = ["-m", "pytest"]
    if probe:
        program = ["-c", f"import sys, pytest; pytest.main(sys.argv[1:]); print({probe!r} in sys.modules)"]
    plain = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    return process([sys.executable, *program, *plain, *arguments], folder, status=status)


@cache
def bytecode() -> tempfile.TemporaryDirectory[str]:
    """Where the processes of this run keep compiled modules: a folder that no other user can write to, deleted at the end."""
    return tempfile.TemporaryDirectory(prefix="engram-bench-bytecode-")


def process(command: Sequence[str], folder: Path, *, status: int = 0) -> Spent:
    """Run *command* in *folder* and say what it used.

    Raises:
        SystemExit: It ended with another status.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONDONTWRITEBYTECODE": "",  # compiled modules are kept, as an installed package's are
        "PYTHONPYCACHEPREFIX": bytecode().name,
    }
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        output = child.stdout.read()
        _, code, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(code)
    wall_s = time.perf_counter() - started
    if child.returncode != status:
        message = f"{' '.join(command)}: status {child.returncode}, expected {status}\n{output[-2000:]}"
        raise SystemExit(message)
    return Spent(wall_s, usage.ru_utime + usage.ru_stime, peak_mb(usage), output)


def peak_mb(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def row(what: str, spent: Spent, note: str) -> tuple[str, ...]:
    return (what, f"{spent.wall_s:.2f}", f"{spent.cpu_s:.2f}", f"{spent.peak_mb:.0f}", note)


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[tuple[str, ...]]]] = {
    "collect": collecting,
    "answer": answering,
    "start": starting,
    "cached": cached,
}


if __name__ == "__main__":
    main()
