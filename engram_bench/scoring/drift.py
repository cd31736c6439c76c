"""Measures that single cases do not give: how far the candidate drifts from the baseline, and how well a router decides."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engram_bench.records import Estimate, Measure
from engram_bench.scoring.metrics import METRICS
from engram_bench.stats import bootstrap, rates


def control_kl(divergences: Sequence[float]) -> Measure | None:
    """The mean KL divergence of the candidate from the baseline over controls, with its interval; None without controls.

    Args:
        divergences: KL divergence (nats) on each control.

    Source: as a measure of forgetting, Shenfeld et al. (2025), "RL's Razor", arXiv 2509.04259.
    """
    if not divergences:
        return None
    metric = METRICS["control_kl"]
    mean = math.fsum(divergences) / len(divergences)
    estimate = Estimate(mean, len(divergences), bootstrap.mean_interval(divergences))
    return Measure(metric.name, metric.unit, None, estimate, higher_is_better=metric.higher_is_better)


def perplexity(baseline: Sequence[Sequence[float]], candidate: Sequence[Sequence[float]]) -> Measure:
    """Perplexity of a text on both sides: exp of the mean negative log-likelihood of a token.

    Intervals are bootstrapped over paragraphs; the ratio compares the two sides on the same tokens.

    Args:
        baseline: Negative log-likelihoods (nats) of the tokens, by paragraph; at least one token.
        candidate: The same tokens on the other side.

    Source: Jelinek et al. (1977), J. Acoust. Soc. Am. 62, S63.
    """
    paragraphs = [number for number, nats in enumerate(baseline) for _ in nats]
    before, after = ([nats for part in side for nats in part] for side in (baseline, candidate))
    metric = METRICS["perplexity"]
    return Measure(
        metric.name,
        metric.unit,
        _exp_of_mean(before, paragraphs),
        _exp_of_mean(after, paragraphs),
        ratio=_exp_of_mean([new - old for old, new in zip(before, after, strict=True)], paragraphs),
        higher_is_better=metric.higher_is_better,
    )


def router_measures(held_out: Sequence[bool], controls: Sequence[bool], note: str) -> tuple[Measure, ...]:
    """Recall and precision of a router over held-out wordings and controls; each is absent without anything to divide by.

    Args:
        held_out: Whether each held-out wording reaches the adapter.
        controls: Whether each control does.
        note: Explanation that a report prints beside the figures.
    """
    return (
        *_share("router_recall", sum(held_out), len(held_out), note),
        *_share("router_precision", sum(held_out), sum(held_out) + sum(controls), note),
    )


def _exp_of_mean(nats: Sequence[float], paragraphs: Sequence[int]) -> Estimate:
    bounds = bootstrap.mean_interval(nats, clusters=paragraphs)
    interval = (math.exp(bounds[0]), math.exp(bounds[1])) if bounds else None
    return Estimate(math.exp(math.fsum(nats) / len(nats)), len(nats), interval)


def _share(name: str, passed: int, total: int, note: str) -> tuple[Measure, ...]:
    if not total:
        return ()
    metric = METRICS[name]
    estimate = Estimate(passed / total, total, rates.wilson_interval(passed, total), passed)
    return (Measure(metric.name, metric.unit, None, estimate, note=note),)
