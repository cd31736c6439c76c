"""What one way of teaching facts (an *arm*) learned, what it forgot and what it costs: a row of the arms table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engram_bench.records import CaseResult, Comparison, Estimate, Provenance, TrainingRecord
from engram_bench.stats import rates


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm at one size; a field is None where there was nothing to measure it on."""

    arm: str
    """``baseline``, or the adapter's kind with its route: ``memory``, ``lora+keys``."""
    patterns: int
    """Patterns that were taught."""
    adapter: str = ""
    """The stored adapter's name; empty for the bare model."""
    recall: Estimate | None = None
    """Prompts as written, answered rightly."""
    wrapped: Estimate | None = None
    """The same prompts in words never trained on, answered rightly."""
    held_out: Estimate | None = None
    """Held-out wordings answered rightly."""
    consistency: Estimate | None = None
    """Pairs of wordings that get the same answer."""
    retention: Estimate | None = None
    """Controls the bare model knew that are still right."""
    agreement: Estimate | None = None
    """Controls answered as the bare model does."""
    perplexity: Estimate | None = None
    """Perplexity of ordinary text over the bare model's; 1.0 is no change."""
    fires: Estimate | None = None
    """Places of the bare model's answers to controls at which the adapter takes part."""
    stored: int = 0
    """Trained values."""
    touched: int = 0
    """Trained values that the prediction of one token reads, at most."""
    examples: int = 0
    steps: int = 0
    train_s: float = 0.0
    """Wall seconds of the training, measured when it was trained."""
    train_memory_mb: float | None = None
    """Most memory the training process held."""
    decode_ratio: Estimate | None = None
    """New tokens a second over the bare model's, paired, the adapter attached as it was trained."""


@dataclass(frozen=True, slots=True)
class Arms:
    """Rows with where they come from."""

    rows: tuple[ArmRow, ...]
    provenance: Provenance


def arm_row(
    arm: str,
    num_patterns: int,
    comparison: Comparison,
    *,
    wrapped: Sequence[CaseResult],
    training: TrainingRecord | None,
) -> ArmRow:
    """The row of a comparison whose candidate is the arm.

    Args:
        arm: Its name.
        num_patterns: How many it was taught.
        comparison: With the bare model.
        wrapped: Its answers to wrapped prompts.
        training: How it was trained; None for the bare model and for what was made elsewhere.
    """

    def rate(metric: str) -> Estimate | None:
        measure = comparison.measures.get(metric)
        return measure.candidate if measure else None

    perplexity = comparison.measures.get("perplexity")
    row = ArmRow(
        arm,
        num_patterns,
        recall=rate("accuracy"),
        wrapped=share([result.score.passed for result in wrapped]),
        held_out=rate("generalization"),
        consistency=rate("paraphrase_consistency"),
        retention=rate("retention"),
        agreement=rate("agreement"),
        perplexity=perplexity.ratio if perplexity else None,
    )
    if training is None:
        return row
    return replace(
        row,
        stored=training.parameters,
        examples=training.examples,
        steps=training.steps,
        train_s=training.seconds,
        train_memory_mb=training.peak_memory_mb,
    )


def share(outcomes: Sequence[bool]) -> Estimate | None:
    """The share of true ones with its interval; None of nothing."""
    if not outcomes:
        return None
    passed = sum(outcomes)
    return Estimate(passed / len(outcomes), len(outcomes), rates.wilson_interval(passed, len(outcomes)), passed)
