"""The run of one session: every case result, with its provenance and the figures measured outside the cases."""

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
    """Origin of a run's figures: model, backend, machine, commit and command."""

    model: str
    model_fingerprint: str
    backend: str
    device: str
    dtype: str
    adapter: str
    """Name of the adapter; empty where the bare model is the candidate."""
    commit: str
    """Short hash of the commit, with ``-dirty`` appended where tracked files had changes; empty outside git."""
    machine: str
    command: str
    started: str
    """Start of the session as ISO 8601 in UTC."""
    versions: Mapping[str, str] = field(default_factory=dict)
    adapter_note: str = ""
    """Why a library computed the adapter and how; empty where the adapter is plain LoRA or a memory."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds of a session's stages; 0 for a stage whose results came from a store."""

    train_s: float = 0.0
    baseline_s: float = 0.0
    candidate_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeedRounds:
    """Timed rounds of one side in one speed test, as measured; every figure on speed is computed from these rounds."""

    test: str
    """``decode_speed``, ``batch_throughput``, ``first_token``, ``time_to_answer`` or ``load_time``."""
    side: Side
    seconds: tuple[float, ...]
    """Seconds of each round, in order of measuring, without the warm-up."""
    tokens: tuple[int, ...] = ()
    """New tokens of each round, over all prompts of the batch."""
    baseline_s: tuple[float, ...] = ()
    """Seconds of the baseline's round beside each round, on the same prompts; empty for the baseline itself."""
    batch: int = 1
    """Number of prompts answered at once."""
    peak_memory_mb: float | None = None
    """Most memory that the device (for a CPU: the process) held meanwhile, with everything that was loaded."""
    conditions: str = ""
    """Cores, threads and clock, the same from the first round to the last."""


@dataclass(frozen=True, slots=True)
class GuardResult:
    """Result of one sanity guard on the seen prompts of a pattern file."""

    guard: str
    """Name of the guard as node ids write it: ``stops-by-itself``."""
    set_name: str
    """Stem of the pattern file."""
    outcome: GuardOutcome
    reason: str = ""
    """Why the guard does not hold, or why the backend cannot check it; empty where it holds."""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """Rates of one checkpoint of a training: what it learned and what it forgot."""

    checkpoint: str
    """Folder relative to the adapter's folder; ``.`` for the finished adapter."""
    step: int
    """Number of optimizer steps before the checkpoint."""
    recall: Estimate | None
    """Accuracy on seen prompts; None where none was asked."""
    held_out: Estimate | None
    """Accuracy on held-out wordings; None where none was asked."""
    retention: Estimate | None
    """Share of known controls that are still answered correctly; None where none was asked."""

    @property
    def mean(self) -> float:
        """Mean of the measured rates, 0..1; 0 where none was measured."""
        rates = [rate.value for rate in (self.recall, self.held_out, self.retention) if rate is not None]
        return sum(rates) / len(rates) if rates else 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """Every case result of a session with its provenance; saved as one JSON file under ``reports/runs/``."""

    name: str
    """Stem of the run's file, ``NNNN-<time>-<commit>``; empty before the run is saved."""
    provenance: Provenance
    results: tuple[CaseResult, ...] = ()
    """Answers of both sides to every case, scored."""
    training: TrainingRecord | None = None
    """Record of the adapter's training; None for the bare model and for an adapter made elsewhere."""
    timing: Timing = Timing()
    measures: tuple[Measure, ...] = ()
    """Measures from outside the cases: perplexity, KL divergence."""
    sweep: tuple[SweepPoint, ...] = ()
    """Rates of the checkpoints in order of training; empty without ``--engram-sweep``."""
    guards: tuple[GuardResult, ...] = ()
    """Results of the sanity guards in order of their checks; a broken one makes every figure doubtful."""
    speed: tuple[SpeedRounds, ...] = ()
    """Timed rounds of the speed tests; empty without them."""
    missing: tuple[str, ...] = ()
    """Ids of selected cases without a result on one side, after a crash; they never pass."""
    candidate: str = ""
    """Name that the user gave the candidate; empty where none is named."""
    recipe: str = ""
    """Preset or file of the recipe that the adapter was trained by; empty for the project's own and for the default recipe."""
    group: str = ""
    """Name of the first run of the session, the same in the runs of all its candidates; empty in a session of one candidate."""
    baseline_model: str = ""
    """Reference of the baseline's model where the candidate is another model; empty where both sides have one base model."""
