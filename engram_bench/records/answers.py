"""What a model answered, and how the answer was scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engram_bench.records.patterns import Case

Side = Literal["baseline", "candidate", "fused"]
StopReason = Literal["stop", "length"]
ScoreOutcome = Literal["passed", "failed", "not_scored"]


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How completions are drawn. Greedy when *temperature* is 0."""

    max_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    sample: int = 0
    """Index of a repeat; another index is another draw, never the same cached one."""
    ignore_eos: bool = False
    """Always produce *max_tokens* tokens (timed runs)."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered to one prompt."""

    text: str
    """Decoded new tokens without the final stop token; template tokens inside stay visible."""
    prompt_tokens: int
    completion_tokens: int
    """New tokens, the stop token included."""
    stop_reason: StopReason
    seconds: float
    """This prompt's share of the wall time of its batch."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Where a backend runs."""

    backend: str
    device: str
    """``cpu``, ``cuda:0 NVIDIA H100``, ``metal Apple M3`` …"""
    dtype: str
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """Anything that explains the figures: threads, BLAS, fallback."""


@dataclass(frozen=True, slots=True)
class Score:
    """Whether a completion is right. A crash in a matcher is ``not_scored``: never a miss, never a pass."""

    outcome: ScoreOutcome
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the completion is right; False as well where it could not be judged."""
        return self.outcome == "passed"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One side's answer to one case, scored."""

    case: Case
    side: Side
    completion: Completion
    score: Score
    test: str = "accuracy"
    """Which suite test asked: accuracy, generalization, consistency, retention."""
    sample: int = 0
    """Index of a sampled repeat; 0 with greedy decoding."""
    log_prob: float | None = None
    """Mean log-probability (nats per token) of the preferred answer and its end token, where the backend gives it."""
    min_prob: float | None = None
    """Smallest probability among those tokens, 0..1."""
    diverges_at: int | None = None
    """Tokens of the preferred answer that greedy decoding would give before it says something else; None if it says it
    all, or where the backend cannot tell."""
