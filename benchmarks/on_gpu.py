"""The ``cuda`` backend measured on one NVIDIA GPU, a stage at a time; ``benchmarks/on_gpu.sh`` installs and calls this module.

    python -m benchmarks.on_gpu FOLDER [--model MODEL] [--budget SECONDS] [--quick]
    python -m benchmarks.on_gpu FOLDER --table

Every stage is a process of its own with a limit of its own. FOLDER/on_gpu.json is written again at the start and at the end
of each stage, and FOLDER/on_gpu.md holds the same as a table, so that whatever ends the run, the stages before it stay. A
stage that exceeds its limit is interrupted, then killed; what it had measured by then is kept. ``--table`` prints the table
of a file that is there, whole or partial. ``--quick`` cuts every stage short, for a machine without a GPU
(``ENGRAM_UNSLOTH_CPU=1``).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.side_by_side import Found, origin
from engram_bench.models.presets import DEFAULT_MODEL
from engram_bench.system.files import write_atomic

PROJECT = Path(__file__).parent.parent
RECORD, TABLE = "on_gpu.json", "on_gpu.md"
GRACE_S = 10.0
"""Seconds between the interruption of a stage and its end by force, in which pytest writes its reports."""
LEAST_S = 5.0
"""A stage is not started with less time left."""
ADAPTER = "ADAPTER"
"""Stands in a command for the folder of the adapter that the run trained."""
LOG_TAIL = 2_000
"""Characters of a failed stage's log that go into the record."""

Reader = Callable[[Path, str], Found]
"""Folder of the run and standard output of a stage → what the stage measured, whether or not it came to its end."""
Command = tuple[str, ...]
Cell = tuple[str, str]
"""What was measured, and the figure."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One process of the run."""

    name: str
    limit_s: float
    command: Sequence[str]
    read: Reader


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything is measured."""

    model: str = DEFAULT_MODEL
    is_quick: bool = False
    """Few steps, prompts and rounds."""

    @property
    def cuts(self) -> tuple[str, ...]:
        """Options of the project's own commands that cut a quick run short."""
        return ("--steps=3",) if self.is_quick else ()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where everything is written")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="preset, folder or .gguf file. Default: %(default)s")
    parser.add_argument("--budget", type=float, default=540, metavar="S", help="seconds in all. Default: %(default)s")
    parser.add_argument("--only", action="append", metavar="STAGE", help="this stage; may be repeated. Default: all")
    parser.add_argument("--commit", default="", help="of this code, where there is no git. Default: what git says")
    parser.add_argument("--quick", action="store_true", help="cut every stage short")
    parser.add_argument("--table", action="store_true", help="print the table of FOLDER's record and measure nothing")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    if given.table:
        print(table(json.loads((folder / RECORD).read_text("utf-8"))))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stage in progress does not outlive the run
    chosen = [s for s in stages(Plan(given.model, given.quick), folder) if not given.only or s.name in given.only]
    where = origin()
    record = run(chosen, folder, where | {"commit": given.commit or where["commit"]}, budget_s=given.budget)
    print(table(record))


# ── the stages ──────────────────────────────────────────────────────────────────────────────────


def stages(plan: Plan, folder: Path) -> list[Stage]:
    """What is measured, the most useful first."""
    python, quick = sys.executable, plan.is_quick
    own = ("--backend=cuda", "--adapter-dir", str(folder / "adapters"), "--model", plan.model)
    asked = ("--backend=cuda", f"--engram-adapter-dir={folder / 'adapters'}", f"--engram-model={plan.model}")
    suite: Command = (
        python,
        "-m",
        "pytest",
        "-p",
        "engram_bench.plugin",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
        *asked,
    )
    suite += tuple(cut.replace("--", "--engram-") for cut in plan.cuts)
    answers: Command = ("-m", "accuracy", "--engram-no-cache", f"--engram-report-dir={folder / 'accuracy'}", "patterns")
    answers += ("--engram-limit=2",) if quick else ()
    speed: Command = ("--benchmark-only", "--engram-speed-budget=20", f"--engram-report-dir={folder / 'speed'}")
    speed += ("--engram-speed-rounds=2", "--engram-speed-budget=0") if quick else ()
    beside: Command = (python, "-m", "benchmarks.against_unsloth", "--backend=cuda", "--model", plan.model)
    beside += ("--limit=4", "--steps=3") if quick else ("--steps=100",)
    shape = (python, "-m", "benchmarks.gpu_shapes", "--model", plan.model, *(("--quick",) if quick else ()))
    return [
        Stage("device", 60, (python, "-m", "benchmarks.gpu_shapes", "--device"), _last_lines),
        Stage("training", 150, (python, "-m", "engram_bench", "train", *own, *plan.cuts, "--json"), _adapter),
        Stage("accuracy", 60, (*suite, *answers), _accuracy),
        Stage("speed", 120, (*suite, *speed, "patterns/speed.yaml"), _speed),
        Stage("qwen2.5-0.5b", 60, (*shape, "qwen2.5-0.5b"), _last_lines),
        Stage("qwen2.5-1.5b", 75, (*shape, "qwen2.5-1.5b"), _last_lines),
        Stage(
            "unsloth-training", 150, (*beside, "--part=training", *_into(folder, "training")), _comparison("training")
        ),
        Stage(
            "unsloth-answering",
            120,
            (*beside, "--part=answering", "--adapter", ADAPTER, *_into(folder, "answering")),
            _comparison("answering"),
        ),
    ]


def _into(folder: Path, part: str) -> tuple[str, str]:
    return ("--json", str(folder / f"{part}.json"))


def run(
    chosen: Iterable[Stage],
    folder: Path,
    where: Mapping[str, str],
    *,
    budget_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """The record of all stages, in order; each has its limit, and at most what is left of the budget."""
    folder.mkdir(parents=True, exist_ok=True)
    started = clock()
    record: Found = {**where, "stages": []}
    for stage in chosen:
        left_s = budget_s - (clock() - started)
        row: Found = {"name": stage.name, "limit_s": stage.limit_s, "state": "running", "found": {}}
        record["stages"].append(row)
        adapter = next((row["found"]["path"] for row in record["stages"] if row["found"].get("path")), None)
        if left_s < LEAST_S:
            row["state"] = "not started: the time was used up"
        elif ADAPTER in stage.command and adapter is None:
            row["state"] = "not started: no adapter was trained"
        else:
            command = [str(adapter) if part == ADAPTER else part for part in stage.command]
            _write(folder, record)
            print(f"{stage.name} …", file=sys.stderr, flush=True)
            row |= _measured(replace(stage, command=command), folder, min(stage.limit_s, left_s))
            print(f"{stage.name}: {row['state']}, {row['seconds']:.0f} s", file=sys.stderr, flush=True)
        _write(folder, record)
    return record


def _measured(stage: Stage, folder: Path, limit_s: float) -> Found:
    """State, seconds and measurements of a stage in a process of its own."""
    out, log = folder / f"{stage.name}.out", folder / f"{stage.name}.log"
    started = time.monotonic()
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(
            stage.command,
            stdout=stdout,
            stderr=stderr,
            cwd=PROJECT,
            start_new_session=True,
            preexec_fn=_hear_interrupts,  # noqa: PLW1509  # this script has no other thread
        )
        try:
            state = _state(process.wait(limit_s))
        except subprocess.TimeoutExpired:
            state = f"over its limit of {limit_s:.0f} s"
        finally:
            _end(process)
    row: Found = {"state": state, "seconds": round(time.monotonic() - started, 1), "found": {}}
    text = out.read_text("utf-8", "replace")
    try:
        row["found"] = stage.read(folder, text)
    except (OSError, ValueError, LookupError, TypeError) as error:
        row["unread"] = f"{type(error).__name__}: {error}"
    if state != "done":
        row["log"] = (text + log.read_text("utf-8", "replace"))[-LOG_TAIL:]
    return row


def _state(code: int) -> str:
    return "done" if code == 0 else f"exit status {code}"


def _hear_interrupts() -> None:
    """Undo what a shell does to a job in the background, whose children would ignore an interruption."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the stage's processes, and kill what is left of them."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write(folder: Path, record: Found) -> None:
    write_atomic(folder / RECORD, json.dumps(record, indent=1) + "\n")
    write_atomic(folder / TABLE, table(record) + "\n")


# ── what a stage left ───────────────────────────────────────────────────────────────────────────


def _last_lines(folder: Path, text: str) -> Found:
    """The objects of the output's lines as one: a script prints a line as soon as it has measured something."""
    found: Found = {}
    for line in text.splitlines():
        if line.startswith("{"):
            with suppress(ValueError):  # the last line of a killed process
                found |= json.loads(line)
    return found


def _adapter(folder: Path, text: str) -> Found:
    document = json.loads(text[text.index("{") :])
    return {"path": document["path"], **document["training"]}


def _accuracy(folder: Path, text: str) -> Found:
    report = json.loads((folder / "accuracy" / "latest.json").read_text("utf-8"))
    return {"accuracy": report["metrics"]["accuracy"], "timing": report["timing"]}


def _speed(folder: Path, text: str) -> Found:
    return {"speed": json.loads((folder / "speed" / "latest.json").read_text("utf-8"))["speed"]}


def _comparison(part: str) -> Reader:
    def read(folder: Path, text: str) -> Found:
        found: Found = json.loads((folder / f"{part}.json").read_text("utf-8"))
        return {name: found[name] for name in ("rows", "facts", "jobs") if name in found}

    return read


# ── the table ───────────────────────────────────────────────────────────────────────────────────


def table(record: Found) -> str:
    """Where it was measured, then Markdown: a row per figure, and one for every stage that did not come to its end."""
    lines = [_where(record), "", "| stage | what | measured |", "| --- | --- | --- |"]
    for row in record["stages"]:
        lines += [f"| {row['name']} | {what} | {figure} |" for what, figure in _figures(row)]
        if row["state"] != "done":
            lines.append(f"| {row['name']} | state | {row['state']} |")
        elif not row["found"]:
            lines.append(f"| {row['name']} | state | nothing could be read: {row.get('unread', 'no output')} |")
    return "\n".join(lines)


def _where(record: Found) -> str:
    device: Found = next((row["found"] for row in record["stages"] if row["name"] == "device"), {})
    versions = ", ".join(f"{name} {version}" for name, version in device.get("versions", {}).items())
    parts = (device.get("device"), device.get("driver") and f"driver {device['driver']}", device.get("dtype"), versions)
    rest = (record["machine"], f"commit {record['commit']}", record["date"], record["command"])
    return "; ".join(str(part) for part in (*parts, *rest) if part)


def _figures(row: Found) -> Iterator[Cell]:
    """The figures of a stage up to the first that it lacks: a table must not end the run that it is made from."""
    try:
        if row["found"]:
            yield from _cells(row["name"], row["found"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        yield "not readable", f"{type(error).__name__}: {error}"


def _cells(name: str, found: Found) -> Iterator[Cell]:
    """The figures of a stage; a stage that was cut short has fewer of them."""
    if name == "device":
        if "memory_mb" in found:
            yield "memory of the GPU", f"{found['memory_mb']} MiB"
    elif name == "training":
        yield from _training_cells(found)
    elif name == "accuracy":
        for side in ("baseline", "candidate"):
            one = found["accuracy"][side]
            yield f"exact answers, {side}", f"{one['passed']} of {one['n']}"
            yield f"seconds of all answers, {side}", f"{found['timing'][f'{side}_s']:.1f} s"
    elif name == "speed":
        yield from map(_speed_cell, found["speed"])
    elif name.startswith("unsloth"):
        yield from _comparison_cells(found)
    else:
        yield from _shape_cells(found)


def _training_cells(found: Found) -> Iterator[Cell]:
    step = f"{1000 * found['seconds'] / found['steps']:.0f} ms a step, recall checks included"
    yield f"{found['steps']} steps, {found['examples']} examples", f"{found['seconds']:.1f} s ({step})"
    yield "tokens per second", f"{found['tokens'] / found['seconds']:,.0f}"
    yield "recall; loss", f"{100 * found['recall']:.1f} %; {found['loss_start']:.2f} → {found['loss_end']:.2f}"
    if found.get("peak_memory_mb"):
        yield "peak memory", f"{found['peak_memory_mb']:,.0f} MiB"


def _speed_cell(side: Found) -> Cell:
    test = side["test"].replace("_", " ") + (f" {side['batch']}" if side["batch"] > 1 else "")
    seconds = side["p50_s"]
    figures = [f"{side['tok_s']['value']:,.1f} tok/s"] if side["tok_s"] else []
    figures.append(f"{1000 * seconds:.1f} ms")
    if side["ratio"]:
        around = " ({} to {})".format(*map(_percent, interval)) if (interval := side["ratio"]["interval"]) else ""
        figures.append(f"{_percent(side['ratio']['value'])}{around} against the bare model")
    if side["peak_memory_mb"]:
        figures.append(f"peak {side['peak_memory_mb']:,.0f} MB")
    return f"{test}, {side['side']}, n = {side['rounds']}", ", ".join(figures)


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _comparison_cells(found: Found) -> Iterator[Cell]:
    for job, rounds in found.get("jobs", {}).items():  # there only where the comparison was cut short
        for part, spent in rounds[0].items():
            if isinstance(spent, dict) and "wall_s" in spent:
                yield f"{job}, {part}", f"{spent['wall_s']:.1f} s"
    for row in found.get("rows", []):
        ours, theirs = row["ours"][0]["wall_s"], row["theirs"][0]["wall_s"]
        yield row["work"], f"{ours:.1f} s here, {theirs:.1f} s Unsloth's own, {theirs / ours:.1f}×"
    yield from ((name, str(value)) for name, value in found.get("facts", {}).items())


def _shape_cells(found: Found) -> Iterator[Cell]:
    if "parameters" in found:
        yield "parameters; file", f"{found['parameters']:,}; {found['file_mb']:,.0f} MB"
    if one := found.get("training"):
        rate = f"{one['tokens_per_s']:,.0f} tokens/s, peak {one['peak_memory_mb']:,.0f} MiB"
        yield f"training, {one['steps']} steps × {one['batch_size']}", f"{1000 * one['step_s']:.0f} ms a step, {rate}"
    for key, one in found.items():
        if key.startswith("decode"):
            memory = f", peak {one['peak_memory_mb']:,.0f} MB" if one["peak_memory_mb"] else ""
            yield key, f"{one['tok_s']:,.1f} tok/s (n = {one['rounds']}){memory}"


if __name__ == "__main__":
    main()
