"""One variant of an adapter (a kind with its route): what it learned, what it forgot and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engram_bench.records import CaseResult, Comparison, Estimate, Provenance, TrainingRecord
from engram_bench.records.plain import JSON_KEY
from engram_bench.stats import rates


@dataclass(frozen=True, slots=True)
class VariantRow:
    """One variant trained on one number of patterns. A field is None where nothing was measured."""

    variant: str = field(metadata={JSON_KEY: "arm"})
    """``baseline``, or the adapter's kind with its route: ``memory``, ``lora+keys``."""
    patterns: int
    """Number of patterns in the training set."""
    adapter: str = ""
    """Name of the stored adapter; empty for the bare model."""
    recall: Estimate | None = None
    """Share of prompts as written that are answered correctly."""
    wrapped: Estimate | None = None
    """Share of the same prompts, in words never trained on, that are answered correctly."""
    held_out: Estimate | None = None
    """Share of held-out wordings that are answered correctly."""
    consistency: Estimate | None = None
    """Share of pairs of wordings that get the same answer."""
    retention: Estimate | None = None
    """Share of the controls known to the bare model that are still answered correctly."""
    agreement: Estimate | None = None
    """Share of controls with the same answer as the bare model's."""
    perplexity: Estimate | None = None
    """Perplexity of ordinary text over the bare model's; 1.0 is no change."""
    fires: Estimate | None = None
    """Share of positions in the bare model's answers to controls at which the adapter takes part."""
    stored: int = 0
    """Number of trained values."""
    touched: int = 0
    """Largest number of trained values that the prediction of one token reads."""
    examples: int = 0
    steps: int = 0
    train_s: float = 0.0
    """Wall seconds of the training, measured when the adapter was trained."""
    train_memory_mb: float | None = None
    """Most memory that the training process held."""
    decode_ratio: Estimate | None = None
    """New tokens per second over the bare model's, in pairs, with the adapter attached as trained."""


@dataclass(frozen=True, slots=True)
class VariantTable:
    """Rows of variants, with their provenance."""

    rows: tuple[VariantRow, ...]
    provenance: Provenance


def variant_row(
    variant: str,
    num_patterns: int,
    comparison: Comparison,
    *,
    wrapped: Sequence[CaseResult],
    training: TrainingRecord | None,
) -> VariantRow:
    """The row of a comparison whose candidate is the variant.

    Args:
        variant: Name of the variant.
        num_patterns: Number of patterns in its training set.
        comparison: Comparison of the variant with the bare model.
        wrapped: Answers of the variant to wrapped prompts.
        training: Record of its training; None for the bare model and for an adapter made elsewhere.
    """

    def rate(metric: str) -> Estimate | None:
        measure = comparison.measures.get(metric)
        return measure.candidate if measure else None

    perplexity = comparison.measures.get("perplexity")
    row = VariantRow(
        variant,
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
    """The share of true outcomes with its 95 % interval; None without outcomes."""
    if not outcomes:
        return None
    passed = sum(outcomes)
    return Estimate(passed / len(outcomes), len(outcomes), rates.wilson_interval(passed, len(outcomes)), passed)
