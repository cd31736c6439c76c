"""Gates judged on a comparison: what was measured, what was wanted, and whether the evidence is enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engram_bench.records import Comparison, Verdict
from engram_bench.scoring.findings import find, verdict
from engram_bench.scoring.gate_grammar import DEFAULT_GATES, Gate, own_gates, parse_gate, session_gates
from engram_bench.stats import rates

__all__ = ["DEFAULT_GATES", "Gate", "judge", "own_gates", "parse_gate", "session_gates", "session_passes"]


def judge(gates: Sequence[Gate], comparison: Comparison, *, alpha: float = 0.05) -> tuple[Verdict, ...]:
    """One verdict per gate, in order.

    * A gate without a value to judge is ``insufficient``; a default gate whose metric was not measured is
      ``not_measured``.
    * An absolute gate is judged on the candidate's value.
    * A relative gate on a paired ratio is judged on the ratio's interval: ``pass`` inside the bound, ``fail`` outside,
      ``insufficient`` where the interval lies across the bound.
    * Any other relative gate fails where the value misses the bound. A gain must also be more than chance, else the gate
      is ``insufficient``. For a rate that means an exact one-sided McNemar p-value of at most *alpha*, Holm-adjusted
      over the rates judged here. Wherever the difference has an interval, 0 must be outside that interval.
    * A tolerance (``accuracy >= -5pp``) passes on the value; the reason names a fall within it that is more than chance.

    Args:
        gates: Gates to judge.
        comparison: Comparison to judge them on.
        alpha: Level of the tests, above 0 and below 1.

    Source: McNemar (1947), Psychometrika 12, 153-157; Holm (1979), Scand. J. Stat. 6, 65-70.
    """
    findings = [find(gate, comparison) for gate in gates]
    raw = [finding.p_value for finding in findings]
    adjusted = iter(rates.holm([p for p in raw if p is not None]))
    return tuple(
        verdict(finding, None if p is None else next(adjusted), alpha) for finding, p in zip(findings, raw, strict=True)
    )


def session_passes(verdicts: Iterable[Verdict]) -> bool:
    """Whether no verdict is ``fail`` or ``insufficient``; True without verdicts."""
    return all(verdict.outcome in ("pass", "not_measured") for verdict in verdicts)
