"""Every metric by name: what it means, its unit, and how it is computed from paired rows.

A metric of the cases has a ``compute``. The others (speed, perplexity) are measured elsewhere and arrive in
``Run.measures`` under the names and units of ``METRICS``. A new metric is a new entry there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import fmean

from engram_bench.matchers.text import normalise
from engram_bench.records import CaseResult, Estimate, Measure
from engram_bench.scoring.pairs import Metric, Pair, mean, rate
from engram_bench.stats import bootstrap, rates


def measure_all(pairs: Iterable[Pair]) -> dict[str, Measure]:
    """Every metric that the pairs' tests give, in the order of ``METRICS``.

    A metric is absent where its test did not run. A rate without a single row to judge, such as the retention of a
    baseline that knew no control, is present with ``candidate=None`` and a note.
    """
    by_test: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_test[pair.candidate.test].append(pair)
    measures = (
        metric.compute(metric, by_test[metric.test])
        for metric in METRICS.values()
        if metric.compute is not None and metric.test in by_test
    )
    return {measure.name: measure for measure in measures if measure is not None}


def agreeing_pairs(texts: Sequence[str]) -> float:
    """Share of pairs among *texts* (at least two) that are equal after normalisation, 0..1.

    Source: consistency of Elazar et al. (2021), "Measuring and Improving Consistency in Pretrained Language Models"
    (ParaRel), TACL 9, 1012-1031.
    """
    counts = Counter(normalised(text) for text in texts)
    return sum(c * (c - 1) for c in counts.values()) / (len(texts) * (len(texts) - 1))


normalised = lru_cache(maxsize=65_536)(normalise)
"""An answer as it is compared with other answers."""

# ── metrics of cases ────────────────────────────────────────────────────────────────────────────


def _passed(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    pairs = [pair for pair in pairs if pair.case.answers]
    if not pairs:
        return None
    outcomes = [(pair.baseline.score.passed, pair.candidate.score.passed) for pair in pairs]
    return rate(metric, outcomes, [pair.pattern for pair in pairs])


def _stopped(metric: Metric, pairs: Sequence[Pair]) -> Measure:
    outcomes = [
        (pair.baseline.completion.stop_reason == "stop", pair.candidate.completion.stop_reason == "stop")
        for pair in pairs
    ]
    return rate(metric, outcomes, [pair.pattern for pair in pairs])


def _retention(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    """Kept over kept and lost: of the controls that the baseline answered correctly, the share that still is."""
    outcomes = [(pair.baseline.score.passed, pair.candidate.score.passed) for pair in pairs if pair.case.answers]
    if not outcomes:
        return None
    counts = Counter(outcomes)
    kept, lost, gained = counts[True, True], counts[True, False], counts[False, True]
    known = kept + lost
    note = f"kept {kept}, lost {lost}, gained {gained}"
    if not known:
        note = f"the baseline knows none of the {len(outcomes)} controls"
    return Measure(
        name=metric.name,
        unit=metric.unit,
        baseline=None,
        candidate=Estimate(kept / known, known, rates.wilson_interval(kept, known), kept) if known else None,
        fixed=gained,
        broken=lost,
        note=note,
    )


def _agreement(metric: Metric, pairs: Sequence[Pair]) -> Measure:
    n = len(pairs)
    same = sum(normalised(p.baseline.completion.said) == normalised(p.candidate.completion.said) for p in pairs)
    return Measure(metric.name, metric.unit, None, Estimate(same / n, n, rates.wilson_interval(same, n), same))


def _answer_tokens(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    values = [
        (float(pair.baseline.completion.answer_tokens), float(pair.candidate.completion.answer_tokens))
        for pair in pairs
    ]
    return mean(metric, values, [pair.pattern for pair in pairs])


def _confident(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    """Share of answers whose every token is more likely than not, so that greedy decoding cannot miss them."""
    outcomes = [
        (pair.baseline.min_prob > 0.5, pair.candidate.min_prob > 0.5, pair.pattern)
        for pair in pairs
        if pair.baseline.min_prob is not None and pair.candidate.min_prob is not None
    ]
    if not outcomes:
        return None
    return rate(metric, [(before, after) for before, after, _ in outcomes], [unit for *_, unit in outcomes])


def _first_divergence(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    """Mean over the misses of each side; the two sides are not paired and have no difference."""

    def side(rows: Iterable[CaseResult]) -> Estimate | None:
        positions = [float(row.diverges_at) for row in rows if row.diverges_at is not None and not row.score.passed]
        interval = bootstrap.mean_interval(positions) if len(positions) > 1 else None
        return Estimate(fmean(positions), len(positions), interval) if positions else None

    if all(row.min_prob is None for pair in pairs for row in (pair.baseline, pair.candidate)):
        return None
    baseline, candidate = side(pair.baseline for pair in pairs), side(pair.candidate for pair in pairs)
    note = f"over the misses of each side: {baseline.n if baseline else 0} and {candidate.n if candidate else 0}"
    return Measure(metric.name, metric.unit, baseline, candidate, note=note)


def _log_prob(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    values = [
        (pair.baseline.log_prob, pair.candidate.log_prob, pair.pattern)
        for pair in pairs
        if pair.baseline.log_prob is not None and pair.candidate.log_prob is not None
    ]
    return mean(metric, [(before, after) for before, after, _ in values], [unit for *_, unit in values])


def groups_of(pairs: Iterable[Pair], key: Callable[[Pair], Hashable]) -> list[list[Pair]]:
    """Groups of at least two pairs with the same key."""
    groups: defaultdict[Hashable, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[key(pair)].append(pair)
    return [group for group in groups.values() if len(group) > 1]


def _consistent_accuracy(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    groups = groups_of((pair for pair in pairs if not pair.is_sampled), lambda pair: pair.pattern)
    if not groups:
        return None
    outcomes = [
        (all(p.baseline.score.passed for p in group), all(p.candidate.score.passed for p in group)) for group in groups
    ]
    return rate(metric, outcomes, [group[0].pattern for group in groups])


def _agreement_within(metric: Metric, groups: Sequence[Sequence[Pair]]) -> Measure | None:
    values = [
        (
            agreeing_pairs([pair.baseline.completion.said for pair in group]),
            agreeing_pairs([pair.candidate.completion.said for pair in group]),
        )
        for group in groups
    ]
    return mean(metric, values, [group[0].pattern for group in groups])


def _paraphrase_consistency(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    return _agreement_within(metric, groups_of((p for p in pairs if not p.is_sampled), lambda pair: pair.pattern))


def _sampling_consistency(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
    return _agreement_within(metric, repeats_of(pairs))


def repeats_of(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Groups of the sampled repeats of a case, of at least two."""
    return groups_of((pair for pair in pairs if pair.is_sampled), lambda pair: pair.case.id)


def _of_k(judge: Callable[[Iterable[bool]], bool]) -> Callable[[Metric, Sequence[Pair]], Measure | None]:
    """Metric of the share of cases of which any (all) of the k samples pass: pass@k (pass^k) with k all samples."""

    def compute(metric: Metric, pairs: Sequence[Pair]) -> Measure | None:
        groups = repeats_of(pairs)
        if not groups:
            return None
        outcomes = [
            (judge(pair.baseline.score.passed for pair in group), judge(pair.candidate.score.passed for pair in group))
            for group in groups
        ]
        k = " or ".join(str(size) for size in sorted({len(group) for group in groups}))
        return replace(rate(metric, outcomes, [group[0].pattern for group in groups]), note=f"k: {k} samples")

    return compute


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "rate", "seen prompts answered correctly", "accuracy", _passed),
        Metric("generalization", "rate", "held-out wordings answered correctly", "generalization", _passed),
        Metric(
            "consistent_accuracy",
            "rate",
            "patterns with a correct answer to every wording",
            "consistency",
            _consistent_accuracy,
        ),
        Metric(
            "paraphrase_consistency",
            "rate",
            "pairs of wordings with the same answer",
            "consistency",
            _paraphrase_consistency,
        ),
        Metric(
            "sampling_consistency",
            "rate",
            "pairs of sampled repeats with the same answer",
            "consistency",
            _sampling_consistency,
        ),
        Metric("pass_at_k", "rate", "prompts with at least one correct sampled repeat", "consistency", _of_k(any)),
        Metric("pass_hat_k", "rate", "prompts with correct sampled repeats only", "consistency", _of_k(all)),
        Metric(
            "retention",
            "rate",
            "controls known to the baseline that are still answered correctly",
            "retention",
            _retention,
        ),
        Metric("control_accuracy", "rate", "controls answered correctly", "retention", _passed),
        Metric("agreement", "rate", "controls with the same answer as the baseline's", "retention", _agreement),
        Metric("stops_by_itself", "rate", "answers to seen prompts that end by themselves", "accuracy", _stopped),
        Metric("answer_tokens", "tokens", "mean length of an answer", "accuracy", _answer_tokens, False),
        Metric("answer_log_prob", "nats", "mean log-probability of the correct answer", "accuracy", _log_prob),
        Metric("answer_confidence", "rate", "correct answers in which every token has p > 0.5", "accuracy", _confident),
        Metric(
            "first_divergence",
            "tokens",
            "correct tokens of a wrong answer before its first wrong token",
            "accuracy",
            _first_divergence,
        ),
        Metric("router_recall", "rate", "held-out wordings that reach the adapter"),
        Metric(
            "router_precision",
            "rate",
            "held-out wordings among all held-out wordings and controls that reach the adapter",
        ),
        Metric("decode_speed", "tok/s", "new tokens per second, one prompt at a time"),
        Metric("attached_decode_speed", "tok/s", "new tokens per second with the adapter attached, not fused"),
        Metric("batch_throughput", "tok/s", "new tokens per second over a batch"),
        Metric("first_token", "seconds", "time to the first token", higher_is_better=False),
        Metric("time_to_answer", "seconds", "time to a whole answer", higher_is_better=False),
        Metric("load_time", "seconds", "time to load the model", higher_is_better=False),
        Metric("peak_memory", "MB", "largest memory in use", higher_is_better=False),
        Metric("perplexity", "ppl", "perplexity of ordinary text", higher_is_better=False),
        Metric("control_kl", "nats", "mean KL divergence from the baseline on controls", higher_is_better=False),
    )
}
"""Name, as gates write it → metric, in the order of reports."""
