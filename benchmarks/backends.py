"""What training costs on each backend: ``python -m benchmarks.backends`` prints the table in docs/backends.md.

Each trains the shipped patterns by the shipped recipe, for the same number of steps, one after the other and each in a
process of its own: Unsloth patches transformers for a whole process, and memory is counted by process. Loading the model
is left out. ``s`` has the last check of recall in it; examples/s and tokens/s are those of the median step; ``whole recipe``
is that step times the recipe's steps at most, full recall may end it sooner.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks.parity import BACKENDS, why_not
from engram_bench.backends.machine.nvidia import CPU_CHOICE, find_gpu
from engram_bench.backends.registry import create
from engram_bench.models import default_cache_dir
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.records import TrainingRecord
from engram_bench.session.bench import Bench
from engram_bench.session.reading import read_settings
from engram_bench.session.sets import load_sets
from engram_bench.system import provenance

PROJECT = Path(__file__).parent.parent
HEADER = ("backend", "device", "steps", "s", "s a step", "examples/s", "tokens/s", "peak MB", "loss", "whole recipe s")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on each backend that is here and print a row for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backends", nargs="*", default=BACKENDS, metavar="BACKEND", help="default: cpu mlx cuda")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="preset, folder or Hub id")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps on each")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # where a backend's own process writes its record
    given = parser.parse_args(arguments)
    if given.into:
        train(given.backends[0], given.model, given.steps, given.into)
        return
    print(f"{provenance.machine()}; commit {provenance.git_commit()}; {provenance.utc_now()[:10]}; {given.model}")
    rows = []
    for name in given.backends:
        if reason := why_not(name):
            print(reason, file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="engram-bench-") as folder:
            rows.append(row(*trained(name, given.model, given.steps, Path(folder))))
    print(tabulate(rows, headers=HEADER, tablefmt="github", disable_numparse=True))


def trained(name: str, model: str, steps: int, folder: Path) -> tuple[TrainingRecord, float, int]:
    """What a training in a process of its own did, seconds of its median step, and the recipe's steps at most.

    Raises:
        RuntimeError: It failed; ends with what it printed.
    """
    command = [sys.executable, "-m", "benchmarks.backends", name, "--model", model, "--steps", str(steps)]
    environment = {**os.environ, CPU_CHOICE: "0" if find_gpu() else "1"}
    done = subprocess.run(
        [*command, "--into", str(folder)], env=environment, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        msg = f"training on {name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        raise RuntimeError(msg)
    found = json.loads((folder / "record.json").read_text("utf-8"))
    return TrainingRecord(**found["record"]), found["step_s"], found["most_steps"]


def train(name: str, model: str, steps: int, folder: Path) -> None:
    """Train in this process and leave ``record.json`` in *folder*."""
    settings = read_settings({"engram_model": model}, {}, root=PROJECT, cwd=PROJECT)
    with Bench(settings, load_sets(settings, PROJECT), default_cache_dir()) as bench:
        what, recipe, examples = bench.engine.model, bench.tuning.recipe, bench.tuning.identity.examples
    clock: list[float] = []
    record = create(name).train(
        what,
        examples,
        replace(recipe, steps=steps, stop_at_recall=False),
        folder,
        progress=lambda stage, *_: clock.append(time.perf_counter()) if stage == "train" else None,
    )
    found = {
        "record": asdict(record),
        "step_s": median([after - before for before, after in pairwise(clock)] or [record.seconds]),
        "most_steps": recipe.steps,
    }
    (folder / "record.json").write_text(json.dumps(found), encoding="utf-8")


def row(record: TrainingRecord, step_s: float, most_steps: int) -> list[str]:
    """A backend's row under :data:`HEADER`."""
    return [
        record.backend,
        f"{record.device}, {record.dtype}",
        str(record.steps),
        f"{record.seconds:.1f}",
        f"{step_s:.2f}",
        f"{record.examples_seen / record.steps / step_s:.1f}",
        f"{record.tokens / record.steps / step_s:.0f}",
        f"{record.peak_memory_mb:.0f}" if record.peak_memory_mb is not None else "",
        f"{record.loss_start:.2f} → {record.loss_end:.2f}",
        f"{step_s * most_steps:.0f}",
    ]


if __name__ == "__main__":
    main()
