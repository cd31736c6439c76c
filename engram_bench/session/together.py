"""The candidates of one session compared with each other, with the gates that name candidates and the reports on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engram_bench.records import Run, Verdict
from engram_bench.records.candidates import CandidateSet
from engram_bench.records.plain import to_json_lines
from engram_bench.reporting.candidate_html import candidate_html
from engram_bench.reporting.candidate_json import candidate_json
from engram_bench.reporting.candidate_markdown import candidate_markdown
from engram_bench.reporting.plots import PLOTS
from engram_bench.scoring.candidate_gates import judge_candidates
from engram_bench.scoring.candidates import candidate_set
from engram_bench.scoring.gate_grammar import BEST, EVERY, Gate, session_gates
from engram_bench.scoring.gates import session_passes
from engram_bench.scoring.lineup import Lineup
from engram_bench.system.files import write_atomic


@dataclass(frozen=True, slots=True)
class Together:
    """A candidate set with the verdicts of the gates that name candidates."""

    found: CandidateSet
    verdicts: tuple[Verdict, ...]

    @property
    def passes(self) -> bool:
        """Whether every gate that names candidates is met."""
        return session_passes(self.verdicts)


def conclude_together(runs: Mapping[str, Run], gates: Sequence[str], names: Sequence[str]) -> Together:
    """The candidates of a session compared with each other.

    A gate that names a candidate without a run is insufficient.

    Args:
        runs: Run of each candidate that has one, at least one, in the user's order.
        gates: Expressions of all gates of the session; those that name no candidate are left out.
        names: Names of all candidates to test.

    Raises:
        UsageError: A gate cannot be read, or names a candidate that is not among *names*.
    """
    lineup = Lineup(runs)
    addressed = [gate for gate in session_gates(gates, candidates=names) if gate.names]
    judged = iter(judge_candidates([gate for gate in addressed if not _absent(gate, runs)], lineup))
    verdicts = tuple(_unjudged(gate, absent) if (absent := _absent(gate, runs)) else next(judged) for gate in addressed)
    return Together(candidate_set(lineup), verdicts)


def save_together(together: Together, report_dir: Path) -> None:
    """Write the latest reports on all candidates into the session's folder.

    The plots there are those of an earlier session with one candidate, and go.

    Raises:
        StoreError: The folder cannot be written; earlier reports stay as they were.
    """
    found, verdicts = together.found, together.verdicts
    write_atomic(report_dir / "latest.json", to_json_lines(candidate_json(found, verdicts)))
    write_atomic(report_dir / "latest.md", candidate_markdown(found, verdicts))
    write_atomic(report_dir / "latest.html", candidate_html(found, verdicts))
    for name in (*PLOTS, "sweep"):
        (report_dir / "plots" / f"{name}.svg").unlink(missing_ok=True)


def _absent(gate: Gate, runs: Mapping[str, Run]) -> str:
    """The first candidate that the gate names and that has no run; empty where there is none."""
    return next((name for name in gate.names if name not in (*runs, BEST, EVERY)), "")


def _unjudged(gate: Gate, absent: str) -> Verdict:
    return Verdict(gate.text, "insufficient", "", gate.wanted, f"candidate {absent!r} has no results")
