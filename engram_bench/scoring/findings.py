"""What a comparison says about one gate: its value with the evidence, and the verdict that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from engram_bench.records import Comparison, Estimate, Measure, Verdict, VerdictOutcome
from engram_bench.scoring.figures import change, counts, figure, number
from engram_bench.scoring.gate_grammar import Gate, nearest
from engram_bench.stats import rates


@dataclass(frozen=True, slots=True)
class Finding:
    """Value of a comparison that one gate judges, with its evidence."""

    gate: Gate
    measure: Measure | None = None
    value: float | None = None
    """Value in the gate's unit; None where it cannot be computed."""
    interval: tuple[float, float] | None = None
    """Interval around *value*, where the whole interval decides (paired ratios)."""
    measured: str = ""
    reason: str = ""
    tested: float | None = None
    """One-sided p-value of a gain by another test than McNemar's; None for McNemar's on *moved*."""
    over_seeds: tuple[float, float] | None = None
    """Interval of *value* over seeds, all of which has to meet the bound; None for a single run."""

    @property
    def moved(self) -> tuple[int, int] | None:
        """Numbers of cases of a rate that changed in the gate's direction and against it; None for other measures."""
        if self.measure is None or self.measure.fixed is None or self.measure.broken is None:
            return None
        fixed, broken = self.measure.fixed, self.measure.broken
        return (fixed, broken) if self.gate.operator == ">=" else (broken, fixed)

    @property
    def p_value(self) -> float | None:
        """P-value of the one-sided test for a gain, McNemar's for a rate; None where no test applies."""
        if not self.gate.asks_for_gain or self.value is None:
            return None
        if self.tested is not None or self.moved is None:
            return self.tested
        return rates.mcnemar_exact(*self.moved)


def find(gate: Gate, comparison: Comparison) -> Finding:
    """The value of a comparison that a gate judges, or the reason why there is none."""
    if gate.scope.startswith("worst_"):
        return _find_worst(gate, comparison)
    measures = comparison.slices.get(gate.scope) if gate.scope else comparison.measures
    if measures is None:
        kind, _, name = gate.scope.partition(":")
        names = [slice_name.partition(":")[2] for slice_name in comparison.slices if slice_name.startswith(f"{kind}:")]
        return Finding(gate, reason=f"no {kind} {name!r} in this run{nearest(name, names)}")
    return finding_of(gate, measures.get(gate.metric))


def _find_worst(gate: Gate, comparison: Comparison) -> Finding:
    """The finding of the slice with the smallest margin."""
    kind = gate.scope.removeprefix("worst_") + ":"
    findings = {
        name.removeprefix(kind): finding_of(gate, measures[gate.metric])
        for name, measures in comparison.slices.items()
        if name.startswith(kind) and gate.metric in measures
    }
    if not findings:
        return finding_of(gate, None)
    margins = {name: -math.inf if f.value is None else gate.margin(f.value) for name, f in findings.items()}
    name = min(margins, key=margins.__getitem__)
    return replace(findings[name], measured=f"{findings[name].measured} in {name}".lstrip())


def finding_of(gate: Gate, measure: Measure | None) -> Finding:
    """The measure's value in the gate's unit, or the reason why there is none."""
    if measure is None:
        return Finding(gate, reason=f"{gate.metric} was not measured")
    if measure.candidate is None:
        return Finding(gate, measure, reason=measure.note or f"{gate.metric} has no value")
    value, interval, measured, reason = _amount(gate, measure, measure.candidate)
    if value is not None and not math.isfinite(value):
        value, reason = None, f"found {value}, expected a finite number"
    return Finding(gate, measure, value, interval, measured, reason)


def _amount(
    gate: Gate, measure: Measure, candidate: Estimate
) -> tuple[float | None, tuple[float, float] | None, str, str]:
    """Value and interval in the gate's unit, the measured text, and the reason where there is no value."""
    unit, baseline, ratio = measure.unit, measure.baseline, measure.ratio
    if not gate.relative:
        support = counts(candidate) or f"n {candidate.n}"
        return scaled(candidate.value, gate), None, f"{figure(candidate.value, unit)} ({support})", ""
    if gate.unit == "%" and ratio is not None:
        if ratio.interval is None:
            return None, None, "", f"{ratio.n} paired rounds give no interval"
        value, low, high = (100 * (bound - 1) for bound in (ratio.value, *ratio.interval))
        return value, (low, high), f"{value:+.1f} % ({low:+.1f} to {high:+.1f}, n {ratio.n})", ""
    if baseline is None:
        return None, None, "", f"{gate.metric} has no baseline value to compare with"
    was = gate.over or "was"
    both = f"{figure(candidate.value, unit)}, {was} {number(baseline.value, unit)}, n {candidate.n}"
    if counts(candidate) and counts(baseline):
        both = f"{counts(candidate)}, {was} {counts(baseline)}"
    difference = measure.difference.value if measure.difference else candidate.value - baseline.value
    if gate.unit != "%":
        return scaled(difference, gate), None, f"{change(difference, unit)} ({both})", ""
    if baseline.value == 0:
        reason = "the baseline is 0, so a change in % is undefined"
        return None, None, both, f"{reason}: write {gate.number:+g}pp" if unit == "rate" else reason
    value = 100 * difference / abs(baseline.value)
    return value, None, f"{value + 0.0:+.1f} % ({both})", ""


def scaled(value: float, gate: Gate) -> float:
    """A value of the metric's unit in the gate's unit: rates are judged in per cent and percentage points."""
    return 100 * value if gate.unit in ("pp", "%") else value


def verdict(finding: Finding, p_value: float | None, alpha: float) -> Verdict:
    """The verdict on a finding.

    Args:
        finding: Finding of one gate.
        p_value: Its p-value, adjusted for all gates; None where no test applies.
        alpha: Level of the tests.
    """
    outcome, reason = _outcome(finding, p_value, alpha)
    gate = finding.gate
    return Verdict(gate.text, outcome, finding.measured, gate.wanted, reason, p_value)


def _outcome(finding: Finding, p_value: float | None, alpha: float) -> tuple[VerdictOutcome, str]:
    gate, value, interval = finding.gate, finding.value, finding.interval
    if value is None:
        is_absent = gate.is_default and finding.measure is None
        return "not_measured" if is_absent else "insufficient", finding.reason
    if interval is not None:
        inside = [gate.margin(bound) >= 0 for bound in interval]
        if all(inside):
            return "pass", ""
        return ("insufficient", "the interval lies across the bound") if any(inside) else ("fail", "")
    if gate.margin(value) < 0:
        return "fail", finding.reason
    if finding.over_seeds is not None and min(map(gate.margin, finding.over_seeds)) < 0:
        low, high = (f"{bound:{'+' if gate.relative else ''}.1f}" for bound in finding.over_seeds)
        return "insufficient", f"does not hold over seeds: {low} to {high} {gate.unit}; {finding.reason}"
    if gate.asks_for_gain:
        doubt = _doubt(finding, p_value, alpha)
        return ("insufficient", doubt) if doubt else ("pass", "")
    return "pass", _fall(finding, alpha)


def _doubt(finding: Finding, p_value: float | None, alpha: float) -> str:
    """Why a gain that is large enough may still be chance; empty where it may not."""
    gate, measure = finding.gate, finding.measure
    assert measure is not None  # a value came out of it
    if p_value is not None and p_value > alpha:
        chance = f"the gain may be chance (p = {p_value:.2g}, expected at most {alpha:g})"
        return _too_few(finding, p_value, alpha) if finding.moved is not None else chance
    interval = measure.difference.interval if measure.difference else None
    if interval is None:
        is_tested = finding.over_seeds is not None or p_value is not None
        return "" if is_tested else f"{gate.metric} has no interval that could rule out chance"
    low, high = interval
    if low <= 0 <= high:
        return f"0 is in the interval of the difference, {change(low, measure.unit)} to {change(high, measure.unit)}"
    return ""


def _too_few(finding: Finding, p_value: float, alpha: float) -> str:
    """Why McNemar's test does not confirm a gain: too few rows, or too many changes against it."""
    gate, measure, moved = finding.gate, finding.measure, finding.moved
    assert measure is not None  # as there is a p-value
    assert measure.candidate is not None
    assert moved is not None
    n = measure.candidate.n
    gain = abs(gate.number) / 100
    if gate.unit == "%" and measure.baseline is not None:
        gain *= measure.baseline.value
    needed = rates.rows_needed(min(gain, 1.0), broken_share=moved[1] / n, alpha=alpha)
    if needed > n:
        return f"needs about {needed} rows to show {gate.number:+g} {gate.unit}; has {n}"
    return (
        f"{moved[0]} changes for and {moved[1]} against may be chance (p = {p_value:.2g}, expected at most {alpha:g})"
    )


def _fall(finding: Finding, alpha: float) -> str:
    """A note on a fall within the tolerance that is more than chance; empty without one."""
    if not finding.gate.relative or finding.moved is None:
        return ""
    with_bound, against = finding.moved
    p_value = rates.mcnemar_exact(against, with_bound)
    return f"within the tolerance, but the change is more than chance (p = {p_value:.2g})" if p_value <= alpha else ""
