"""One session as it is saved: every case result, with its provenance and what was measured beside the cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engram_bench.records.answers import CaseResult, Side
from engram_bench.records.comparison import Estimate, Measure
from engram_bench.records.training import TrainingRecord

GuardOutcome = Literal["holds", "broken", "not_told"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a run's figures come from."""

    model: str
    model_fingerprint: str
    backend: str
    device: str
    dtype: str
    adapter: str
    """Name of the adapter; empty when the bare model is the candidate."""
    commit: str
    """Short hash, ``-dirty`` appended where the tree had changes; empty outside git."""
    machine: str
    command: str
    started: str
    """ISO 8601, UTC."""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds of a session's stages; 0 where a stage was served from a store."""

    train_s: float = 0.0
    baseline_s: float = 0.0
    candidate_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeedRounds:
    """Timed rounds of one side in one speed test, as measured: whatever is said about speed is computed from these."""

    test: str
    """``decode_speed``, ``batch_throughput``, ``first_token``, ``time_to_answer`` or ``load_time``."""
    side: Side
    seconds: tuple[float, ...]
    """One per round, in order of measuring; the warm-up is not among them."""
    tokens: tuple[int, ...] = ()
    """New tokens of each round, all prompts of the batch together."""
    baseline_s: tuple[float, ...] = ()
    """The baseline's round beside each, on the same prompts; empty for the baseline itself."""
    batch: int = 1
    """Prompts answered at once."""
    peak_memory_mb: float | None = None
    """Most memory the device (a CPU: the process) held meanwhile, all that was loaded included."""
    conditions: str = ""
    """Cores, threads and clock, the same from the first round to the last."""


@dataclass(frozen=True, slots=True)
class GuardResult:
    """One sanity guard over the seen prompts of a pattern file."""

    guard: str
    """As node ids write it: ``stops-by-itself``."""
    set_name: str
    """Stem of the pattern file."""
    outcome: GuardOutcome
    reason: str = ""
    """Why it does not hold, or why the backend cannot tell; empty where it holds."""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """What one checkpoint of a training has learned and forgotten."""

    checkpoint: str
    """Folder relative to the adapter's; ``.`` for the finished adapter."""
    step: int
    """Optimizer steps done."""
    recall: Estimate | None
    """Accuracy on seen prompts; None, as below, where it was not asked."""
    held_out: Estimate | None
    retention: Estimate | None

    @property
    def mean(self) -> float:
        """Mean of the rates that were measured, 0..1; 0 if none was."""
        rates = [rate.value for rate in (self.recall, self.held_out, self.retention) if rate is not None]
        return sum(rates) / len(rates) if rates else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """Every case result of a session with its provenance: one JSON file."""

    name: str
    """``NNNN-<date>-<commit>``, the file's stem; empty before it is saved."""
    provenance: Provenance
    results: tuple[CaseResult, ...] = ()
    training: TrainingRecord | None = None
    timing: Timing = Timing()
    measures: tuple[Measure, ...] = ()
    """Measured outside cases: perplexity, KL."""
    sweep: tuple[SweepPoint, ...] = ()
    """Checkpoints in order of training; empty without ``--engram-sweep``."""
    guards: tuple[GuardResult, ...] = ()
    """Sanity guards in the order they were run; a broken one makes every figure doubtful."""
    speed: tuple[SpeedRounds, ...] = ()
    """Timed rounds of the speed tests."""
    missing: tuple[str, ...] = ()
    """Ids of selected cases that got no result on some side (a crash): never a pass."""
