"""Sanity guards in words: one line on all of them, and one line on each guard that does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from engram_bench.records import GuardOutcome, GuardResult, Run
from engram_bench.reporting.tables import ReportTable
from engram_bench.scoring.guards import GUARDS

OUTCOMES: Mapping[GuardOutcome, str] = {"holds": "holds", "broken": "broken", "not_told": "cannot be checked"}
"""Outcome of a guard → its words."""


def guard_sentences(run: Run) -> list[str]:
    """The number of guards that hold, then a line per guard that does not; empty where no guard was checked."""
    if not run.guards:
        return []
    found = Counter(guard.outcome for guard in run.guards)
    others = [f"{found[outcome]} {OUTCOMES[outcome]}" for outcome in OUTCOMES if outcome != "holds" and found[outcome]]
    counts = ", ".join([f"{found['holds']} of {len(run.guards)} hold", *others])
    return [f"sanity guards: {counts}", *(_sentence(guard) for guard in run.guards if guard.outcome != "holds")]


def guard_table(run: Run) -> ReportTable | None:
    """A row per guard over all files, with what the guard checks or why it does not hold; None without guards."""
    if not run.guards:
        return None
    rows = []
    for name in dict.fromkeys(guard.guard for guard in run.guards):
        same = [guard for guard in run.guards if guard.guard == name]
        worst = min(same, key=lambda guard: ("broken", "not_told", "holds").index(guard.outcome))
        held = sum(guard.outcome == "holds" for guard in same)
        reasons = "; ".join(f"{guard.set_name}: {guard.reason}" for guard in same if guard.reason)
        rows.append((name, OUTCOMES[worst.outcome], f"{held} of {len(same)}", reasons or GUARDS.get(name, "")))
    return ReportTable("sanity guards", ("guard", "verdict", "files", "rule or reason"), "llrl", tuple(rows))


def _sentence(guard: GuardResult) -> str:
    return f"guard {OUTCOMES[guard.outcome]}: {guard.set_name} {guard.guard}: {guard.reason}"
