"""Completions of a model, how they are drawn, and how they are scored."""

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
    """Settings of decoding; greedy where *temperature* is 0."""

    max_tokens: int = 32
    """Largest number of new tokens."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    sample: int = 0
    """Index of a repeat; another index gives another draw, never the same stored completion."""
    ignore_eos: bool = False
    """Whether a completion always has *max_tokens* tokens, as in timed rounds."""
    max_reasoning_tokens: int | None = None
    """Largest number of new tokens up to the end of the model's reasoning; *max_tokens* then counts from there.

    None counts reasoning towards *max_tokens*. Reasoning that has no end within its limit leaves no answer.
    """


@dataclass(frozen=True, slots=True)
class Completion:
    """Answer of a model to one prompt."""

    text: str
    """Decoded new tokens without the final stop token; template tokens inside the text stay visible.

    In a scored result the text is the answer alone; what the model thought aloud is in *reasoning*.
    """
    prompt_tokens: int
    completion_tokens: int
    """Number of new tokens, the stop token included."""
    stop_reason: StopReason
    seconds: float
    """Share of the batch's wall time that falls to this prompt."""
    reasoning: str = ""
    """What the model thought aloud before its answer (``<think>…</think>`` and similar marks), without the marks."""
    reasoning_tokens: int = 0
    """Number of new tokens that the reasoning took, marks included; they are among *completion_tokens*."""

    @property
    def answer_tokens(self) -> int:
        """Number of new tokens besides the reasoning, the stop token included."""
        return self.completion_tokens - self.reasoning_tokens

    @property
    def said(self) -> str:
        """The answer; the reasoning where that is all there is."""
        return self.text or self.reasoning


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Device and precision of a backend."""

    backend: str
    device: str
    """``cpu``, ``cuda:0 NVIDIA H100``, ``metal Apple M3`` …"""
    dtype: str
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """Conditions that explain the figures: threads, BLAS, fallback."""


@dataclass(frozen=True, slots=True)
class Score:
    """Judgement of a completion. A crash in a matcher gives ``not_scored``, which is neither a miss nor a pass."""

    outcome: ScoreOutcome
    reason: str = ""
    """Why the completion did not pass; empty for a pass."""

    @property
    def passed(self) -> bool:
        """Whether the completion is correct; False as well where it could not be judged."""
        return self.outcome == "passed"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One side's answer to one case, scored."""

    case: Case
    side: Side
    completion: Completion
    score: Score
    test: str = "accuracy"
    """Suite test that asked: ``accuracy``, ``generalization``, ``consistency`` or ``retention``."""
    sample: int = 0
    """Index of a sampled repeat, from 1; 0 with greedy decoding."""
    log_prob: float | None = None
    """Mean log-probability (nats per token) of the preferred answer and its end token; None where the backend has none."""
    min_prob: float | None = None
    """Smallest probability among those tokens, 0..1."""
    diverges_at: int | None = None
    """Number of tokens of the preferred answer that greedy decoding gives before its first other token.

    None where greedy decoding gives the whole answer, or where the backend cannot compute the number.
    """
