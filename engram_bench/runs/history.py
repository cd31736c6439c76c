"""The history of saved runs, one row per run, from which trends are drawn.

Reading a run takes time that grows with its cases, so ``reports/runs/.index.json`` keeps the rows by name, size and time of
change of the run files. The index is a cache: where it is missing, damaged or cannot be written, the runs are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engram_bench.errors import StoreError
from engram_bench.records import Measure, Run
from engram_bench.records.plain import from_plain, to_json_lines, to_plain
from engram_bench.runs.store import list_runs, load_run
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gate_grammar import ALIASES
from engram_bench.system.files import write_atomic
from engram_bench.system.reading import read_json

INDEX_FILE = ".index.json"
INDEX_SCHEMA = 1
"""Number of the index's format, raised when the meaning of a row changes; an index of another schema is not read."""

TREND: Mapping[str, str] = {
    "accuracy": "accuracy",
    "held-out": "generalization",
    "consistency": ALIASES["consistency"],
    "retention": "retention",
    "speed ratio": "decode_speed",
}
"""Figure of a history → its metric; the last one is the candidate's ratio to the baseline."""


@dataclass(frozen=True, slots=True)
class Point:
    """Value of one metric in one run."""

    value: float
    """Rate of the candidate, 0..1; for a timed metric, the candidate over the baseline."""
    n: int
    """Number of rows or pairs behind the value."""
    interval: tuple[float, float] | None = None
    baseline: float | None = None
    """Rate of the baseline; None for a timed metric."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """Row of one run in a history."""

    name: str
    started: str
    commit: str
    model: str
    backend: str
    adapter: str
    cases: int
    """Number of distinct cases."""
    points: Mapping[str, Point] = field(default_factory=dict)
    """Name in ``TREND`` → value; only measured figures are there."""
    candidate: str = ""
    """Name of the candidate; empty where none was named."""
    recipe: str = ""
    """Preset or file of the adapter's recipe, where one was named."""


@dataclass(frozen=True, slots=True)
class History:
    """The runs of a report folder, oldest first."""

    rows: tuple[RunRow, ...]
    unreadable: tuple[str, ...] = ()
    """Reason for each run file that is left out (cut, another schema); a reason names its file."""


def read_history(report_dir: Path) -> History:
    """The saved runs of *report_dir*, oldest first; empty where there are none.

    A file that is not a complete run of this version is left out and named in ``unreadable``.
    """
    index = report_dir / "runs" / INDEX_FILE
    known = {entry.file: entry for entry in _read_index(index)}
    entries: list[_Indexed] = []
    unreadable: list[str] = []
    for path in list_runs(report_dir):
        try:
            stat = path.stat()
            state = f"{stat.st_size}/{stat.st_mtime_ns}"
            entry = known.get(path.name)
            is_known = entry is not None and entry.state == state
            entries.append(entry if entry and is_known else _Indexed(path.name, state, run_row(load_run(path))))
        except StoreError as error:
            unreadable.append(str(error))
        except OSError as error:
            unreadable.append(f"{path}: {error.strerror or error}")
    if entries != list(known.values()):
        with suppress(StoreError):
            write_atomic(index, to_json_lines({"schema": INDEX_SCHEMA, "runs": to_plain(tuple(entries))}))
    return History(tuple(entry.row for entry in entries), tuple(unreadable))


@dataclass(frozen=True, slots=True)
class _Indexed:
    """Entry of the index."""

    file: str
    state: str
    """Size and time of change of the file; a difference means other content."""
    row: RunRow


def run_row(run: Run) -> RunRow:
    """The row of a run in a history."""
    measures = compare(run).measures
    points = {name: _point(measures[metric]) for name, metric in TREND.items() if metric in measures}
    about = run.provenance
    return RunRow(
        name=run.name,
        started=about.started,
        commit=about.commit,
        model=about.model,
        backend=about.backend,
        adapter=about.adapter,
        cases=len({row.case.id for row in run.results}),
        points={name: point for name, point in points.items() if point is not None},
        candidate=run.candidate,
        recipe=run.recipe,
    )


def _point(measure: Measure) -> Point | None:
    estimate = measure.ratio if measure.unit != "rate" else measure.candidate
    if estimate is None:
        return None
    baseline = measure.baseline.value if measure.baseline and measure.unit == "rate" else None
    return Point(estimate.value, estimate.n, estimate.interval, baseline)


def _read_index(path: Path) -> tuple[_Indexed, ...]:
    kind: Any = tuple[_Indexed, ...]
    with suppress(OSError, ValueError):
        plain = read_json(path)
        if isinstance(plain, dict) and plain.get("schema") == INDEX_SCHEMA:
            found: tuple[_Indexed, ...] = from_plain(kind, plain.get("runs"))
            return found
    return ()
