"""Processor seconds of training and answers beside other busy processes: ``python -m benchmarks.contention``.

Threads that wait for each other by spinning use processor time for nothing, and the more of it, the longer another process
keeps a thread from its core. Each round runs the same work of the default model in a process of its own: alone, and beside one
busy process on each core; with this package's own setting, and with each of the chosen settings of OpenMP. Every second round
is in reversed order. Printed are the medians of processor and wall seconds of a training step and of an answer, and the ratio
of processor seconds to the same work alone. ``--kind lora`` and ``--seed`` make the training the same in every process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tabulate import tabulate

from benchmarks.side_by_side import MAX_TOKENS, Found, Spent, material, now, origin, steps_alone, timed
from engram_bench.backends.registry import create
from engram_bench.records import GenerationSettings, Recipe

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "own": {},
    "spinning": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "brief": {"GOMP_SPINCOUNT": "1000"},
    "1 thread": {"OMP_NUM_THREADS": "1"},
}
"""Environment variables by the name of the setting. ``own`` is what this package sets, ``spinning`` the default of libgomp."""
CONDITIONS = ("alone", "beside")
WORK = ("a training step", "an answer, bare", "an answer, tuned")
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table."""
    options = _options(argv)
    if options.job:
        print(json.dumps(work(options)))
        return 0
    found: dict[tuple[str, str], list[Found]] = {}
    pairs = [(setting, condition) for setting in options.settings.split(",") for condition in CONDITIONS]
    for number in range(options.rounds):
        for setting, condition in pairs if number % 2 == 0 else reversed(pairs):
            found.setdefault((setting, condition), []).append(_in_process(setting, condition, options))
            print(setting, condition, found[setting, condition][-1], file=sys.stderr, flush=True)
    print("; ".join(origin().values()))
    print(table(found))
    return 0


def table(found: Mapping[tuple[str, str], Sequence[Found]]) -> str:
    """One row for each work and setting: processor and wall seconds in both conditions, and the ratio of the former."""
    rows = []
    for name in WORK:
        for setting in dict.fromkeys(setting for setting, _ in found):
            alone, beside = (_medians([one[name] for one in found[setting, condition]]) for condition in CONDITIONS)
            seconds = [*_words(alone), *_words(beside)]
            rows.append((name, setting, *seconds, f"{beside['cpu_s'] / alone['cpu_s']:.2f}"))
    heads = ("work", "setting", "alone: CPU s", "wall s", "beside: CPU s", "wall s", "CPU ratio")
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True)


def work(options: argparse.Namespace) -> Found:
    """Seconds of one step, and of one answer on each side."""
    model, cases, examples = material(options.limit)
    backend = create("cpu")
    ends: list[Spent] = []

    def note(stage: str, done: int, total: int, text: str) -> None:
        if stage == "train":
            ends.append(now())

    found: Found = {}
    settings = GenerationSettings(max_tokens=MAX_TOKENS)
    with tempfile.TemporaryDirectory(prefix="engram-bench-contention-") as folder:
        recipe = Recipe(steps=options.steps, stop_at_recall=False, replay=0, seed=options.seed)
        backend.train(model, examples, recipe, Path(folder), progress=note)
        found[WORK[0]] = steps_alone(ends, 1)
        for name, adapter in ((WORK[1], None), (WORK[2], Path(folder))):
            generator = backend.load(model, adapter)
            generator.complete([cases[0].prompt], settings)  # compiles what is compiled once
            with timed(found, name):
                generator.complete([case.prompt for case in cases], settings)
            found[name] = {clock: seconds / len(cases) for clock, seconds in found[name].items()}
            generator.close()
    return found


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--settings", default="own,spinning", help="of " + ", ".join(SETTINGS) + ". Default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of all settings. Default: %(default)s")
    parser.add_argument("--steps", type=int, default=6, help="training steps. Default: %(default)s")
    parser.add_argument("--limit", type=int, default=24, metavar="N", help="first N prompts. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the training. Default: %(default)s")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if unknown := set(options.settings.split(",")) - set(SETTINGS):
        parser.error(f"--settings: got {', '.join(sorted(unknown))}, expected some of {', '.join(SETTINGS)}")
    return options


def _in_process(setting: str, condition: str, options: argparse.Namespace) -> Found:
    numbers = ("steps", "limit", "seed")
    arguments = [part for name in numbers for part in (f"--{name}", str(getattr(options, name)))]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))
    }
    with _busy_cores() if condition == "beside" else tempfile.TemporaryFile():
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.contention", "--job", *arguments],
            env={**clean, **SETTINGS[setting]},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _busy_cores() -> Iterator[None]:
    """A busy process on each core that this process may use."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _medians(rounds: Sequence[Spent]) -> Spent:
    return {clock: statistics.median(one[clock] for one in rounds) for clock in rounds[0]}


def _words(spent: Spent) -> tuple[str, str]:
    return f"{spent['cpu_s']:.3f}", f"{spent['wall_s']:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
