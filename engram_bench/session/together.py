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
from engram_bench.session.settings import Settings, names_of
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


def conclude_together(runs: Mapping[str, Run], chosen: Mapping[str, Settings]) -> Together:
    """The candidates of a session compared with each other.

    The runs of one recipe under several seeds are one candidate, and then every gate is judged here. A gate is insufficient
    where it addresses a candidate without a run, or a recipe without a run of each seed.

    Args:
        runs: Run of each candidate that has one, at least one, in the user's order.
        chosen: Settings of all candidates to test, by name.

    Raises:
        UsageError: A gate cannot be read, or names an unknown candidate.
    """
    lineup, first = Lineup(by_recipe(runs, chosen)), next(iter(chosen.values()))
    gates = session_gates(first.gate, candidates=names_of(chosen))
    here = [gate for gate in gates if gate.names or first.seeds > 1]
    absent = [name for name in chosen if name not in runs]
    judged = iter(judge_candidates([gate for gate in here if not _absent(gate, absent, chosen)], lineup))
    verdicts = tuple(
        _unjudged(gate, name) if (name := _absent(gate, absent, chosen)) else next(judged) for gate in here
    )
    return Together(candidate_set(lineup), verdicts)


def by_recipe(runs: Mapping[str, Run], chosen: Mapping[str, Settings]) -> dict[str, Run | dict[str, Run]]:
    """The runs with those of one recipe together, by seed."""
    found: dict[str, Run | dict[str, Run]] = {}
    for name, run in runs.items():
        each = chosen[name]
        if each.recipe_of:
            seeds = found.setdefault(each.recipe_of, {})
            assert isinstance(seeds, dict)
            seeds[str(each.seed)] = run
        else:
            found[name] = run
    return found


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


def _absent(gate: Gate, absent: Sequence[str], chosen: Mapping[str, Settings]) -> str:
    """The first of the *absent* candidates that the gate addresses, each of them if it is on all; empty without one."""
    addresses_all = gate.candidate in ("", BEST, EVERY)
    return next((name for name in absent if addresses_all or (chosen[name].recipe_of or name) in gate.names), "")


def _unjudged(gate: Gate, absent: str) -> Verdict:
    return Verdict(gate.text, "insufficient", "", gate.wanted, f"candidate {absent!r} has no results")
