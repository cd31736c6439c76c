"""Seconds of each stage of the main job, nothing served from a store: ``python -m benchmarks.pipeline [--steps N]``.

Pattern files are loaded and rendered, an adapter is trained, both sides answer every seen prompt, the reports are written.
The model is taken from the user's cache; adapter, answers and reports go to a folder that is deleted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from engram_bench import matchers
from engram_bench.models import default_cache_dir
from engram_bench.patterns.load import load_pattern_files
from engram_bench.session.bench import Bench, finished
from engram_bench.session.conclusion import conclude, save
from engram_bench.session.plan import SUITE
from engram_bench.session.reading import read_settings
from engram_bench.system import provenance

PROJECT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", help="optimizer steps at most; default: the shipped recipe's")
    parser.add_argument("--backend", help="default: auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as folder:
        measure(Path(folder), {"engram_steps": args.steps, "engram_backend": args.backend})


def measure(folder: Path, flags: dict[str, str | None]) -> None:
    """Run the journey once and print a line per stage."""
    seconds: dict[str, float] = {}
    settings = read_settings({**flags, "engram_no_cache": True}, {}, root=PROJECT, cwd=Path.cwd())
    settings = replace(settings, adapter_dir=folder / "adapters", report_dir=folder / "reports")
    started, clock = provenance.utc_now(), time.perf_counter()
    with timed(seconds, "data"):
        sets = load_pattern_files(settings.patterns, root=PROJECT, known_matchers=matchers.names())
        memory = [each for each in sets if each.kind == "memory"]
    with Bench(settings, sets, default_cache_dir()) as bench:
        with timed(seconds, "data"):
            num_examples = len(bench.tuning.examples)
        with timed(seconds, "training"):
            adapter = bench.tuning.adapter
        tasks = [task for each in memory for task in SUITE["accuracy"].tasks(each, settings)]
        questions = [question for task in tasks for question in SUITE["accuracy"].questions(task, settings)]
        results = []
        for side in ("baseline", "candidate"):
            with timed(seconds, side):
                results += bench.answer(questions, side)
        with timed(seconds, "report"):
            run = finished(bench.run(), results, started=started, total_s=time.perf_counter() - clock)
            conclusion = save(conclude(run, settings), settings.report_dir)
    accuracy = conclusion.comparison.measures["accuracy"]
    assert adapter is not None
    assert adapter.manifest.training is not None
    assert accuracy.baseline is not None
    assert accuracy.candidate is not None
    print(f"{run.provenance.machine}, backend {run.provenance.backend}, commit {run.provenance.commit}, {started}")
    print(f"{len(questions)} prompts, {num_examples} examples, {adapter.manifest.training.steps} steps, ", end="")
    print(f"baseline {accuracy.baseline.passed}, candidate {accuracy.candidate.passed} right")
    print(tabulate(seconds.items(), headers=["stage", "seconds"], floatfmt=".1f"))


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the block's wall seconds to *stage*."""
    clock = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - clock


if __name__ == "__main__":
    main()
