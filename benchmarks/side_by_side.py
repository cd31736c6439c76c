"""The same work done by this project and by a rival: every job in a process of its own, the two in turn, one table.

A script gives its jobs by name; each returns what it measured as JSON values. Processor seconds stand beside the wall's:
on a machine with other work to do they are the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engram_bench.models import Model, resolve_model
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.patterns.expand import accuracy_cases
from engram_bench.patterns.find import find_pattern_files
from engram_bench.patterns.load import load_pattern_file
from engram_bench.records import Case, TrainingExample
from engram_bench.system import provenance

PATTERNS = Path(__file__).parent.parent / "patterns"
MAX_TOKENS = 32
CLOCKS = {"wall_s": time.perf_counter, "cpu_s": time.process_time}

Spent = Mapping[str, float]
"""``wall_s`` and ``cpu_s``."""
Found = dict[str, Any]
"""What a job measured; ``process`` is what the whole process took, interpreter and imports included."""
Job = Callable[[Path, argparse.Namespace], Found]


@dataclass(frozen=True, slots=True)
class Row:
    """One work of the table: its rounds on both sides, in order."""

    work: str
    ours: Sequence[Spent]
    theirs: Sequence[Spent]
    wanted: float | None = None
    """The ratio that is to be reached."""

    def ratio(self, clock: str) -> float:
        """Their seconds over ours, the median of the rounds."""
        return statistics.median(b[clock] / a[clock] for a, b in zip(self.ours, self.theirs, strict=True))


def start(doc: str, add_options: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
    """The script's options, those that every comparison has included."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, metavar="N", help="first N shipped prompts; default: all")
    parser.add_argument("--rounds", type=int, default=1, help="of every pair of jobs. Default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there too")
    parser.add_argument("--job", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    add_options(parser)
    return parser.parse_args()


def take_turns(module: str, names: Sequence[str], folder: Path, options: argparse.Namespace) -> dict[str, list[Found]]:
    """What each job found in each round; every second round in reversed order.

    What is found goes into the ``--json`` file after every job, until the whole comparison replaces these results.
    """
    found: dict[str, list[Found]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(in_process(module, name, folder))
            print(name, found[name][-1]["process"], file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps({**origin(), "jobs": found}, indent=1), "utf-8")
    return found


def measure(
    module: str,
    jobs: Mapping[str, Job],
    options: argparse.Namespace,
    compare: Callable[[Path], tuple[list[Row], Found]],
) -> None:
    """Do the one job that this process was started for, or let *compare* start all of them and print its table."""
    if options.job:
        name, folder = options.job
        print(json.dumps(jobs[name](Path(folder), options)))
        return
    with tempfile.TemporaryDirectory(prefix="engram-bench-") as folder:
        rows, facts = compare(Path(folder))
    print(table(rows, facts))
    if options.json:
        content = {**origin(), "facts": facts, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=1), "utf-8")


def table(rows: Sequence[Row], facts: Found) -> str:
    """Where and how it was measured, a line each, then Markdown: seconds and ratios of every work."""
    lines = [
        "; ".join(origin().values()),
        *(f"{name}: {value}" for name, value in facts.items()),
        "",
        "| work | this project (processors) | rival (processors) | ratio (processors) | wanted |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.work} | {_seconds(row.ours)} | {_seconds(row.theirs)} "
            f"| {row.ratio('wall_s'):.1f}× ({row.ratio('cpu_s'):.1f}×) | {f'{row.wanted:g}×' if row.wanted else ''} |"
        )
    return "\n".join(lines)


def origin() -> dict[str, str]:
    """Where figures come from: machine, command, commit, date."""
    return {
        "machine": provenance.machine(),
        "command": provenance.command_line(),
        "commit": provenance.git_commit(),
        "date": provenance.utc_now(),
    }


def parts(found: Sequence[Found], *names: str) -> list[Spent]:
    """Seconds of the parts *names* of a job in each round, added up."""
    return [{clock: sum(one[name][clock] for name in names) for clock in CLOCKS} for one in found]


def now() -> Spent:
    """What the clocks show."""
    return {name: clock() for name, clock in CLOCKS.items()}


def steps_alone(ends: Sequence[Spent], num_steps: int) -> Spent:
    """Seconds of *num_steps* steps at the pace from the first of the steps' *ends* to the last."""
    return {clock: (ends[-1][clock] - ends[0][clock]) / (len(ends) - 1) * num_steps for clock in CLOCKS}


@contextmanager
def timed(found: Found, part: str) -> Iterator[None]:
    """Note the block's seconds as *part*."""
    started = now()
    yield
    found[part] = {name: clock() - started[name] for name, clock in CLOCKS.items()}


def material(limit: int | None = None, model: str = DEFAULT_MODEL) -> tuple[Model, list[Case], list[TrainingExample]]:
    """The model, the shipped prompts as written, and the same as training examples."""
    sets = [load_pattern_file(path) for path in find_pattern_files([PATTERNS])]
    cases = [case for one in sets if one.kind == "memory" for case in accuracy_cases(one)][:limit]
    return resolve_model(model), cases, [TrainingExample(case.prompt, case.answers[0]) for case in cases]


def num_right(texts: Sequence[str], cases: Sequence[Case]) -> int:
    """Answers that are, but for space around them, the expected ones."""
    return sum(text.strip() == case.answers[0] for text, case in zip(texts, cases, strict=True))


def _seconds(rounds: Sequence[Spent]) -> str:
    wall, processors = (statistics.median(one[clock] for one in rounds) for clock in CLOCKS)
    return f"{wall:.1f} s ({processors:.1f} s)"


def in_process(module: str, name: str, folder: Path) -> Found:
    command = [sys.executable, "-m", module, *sys.argv[1:], "--job", name, str(folder)]
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**found, "process": {"wall_s": time.perf_counter() - wall, "cpu_s": processors}}
