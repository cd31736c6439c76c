"""Saved runs as candidates that are compared with each other: how they are named, and how the result is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engram_bench.cli.console import encoding, say, say_json, width
from engram_bench.errors import UsageError
from engram_bench.records import Run
from engram_bench.reporting.candidate_html import candidate_html
from engram_bench.reporting.candidate_json import candidate_json
from engram_bench.reporting.candidate_markdown import candidate_markdown
from engram_bench.reporting.candidate_terminal import candidate_lines
from engram_bench.reporting.terminal import line_colour
from engram_bench.runs.store import find_run, load_run
from engram_bench.scoring.candidate_gates import judge_candidates
from engram_bench.scoring.candidates import candidate_set
from engram_bench.scoring.gate_grammar import CANDIDATE_NAME, RESERVED_NAMES, Gate
from engram_bench.scoring.gates import session_passes
from engram_bench.scoring.lineup import Lineup
from engram_bench.system.files import write_atomic

_NAMED = re.compile(rf"(?P<name>{CANDIDATE_NAME})=(?P<run>.+)", re.DOTALL)


@dataclass(frozen=True)
class NamedRuns:
    """Names of candidates with the references of their runs."""

    runs: Mapping[str, tuple[str, ...]]
    are_named: bool
    """Whether the user gave a name."""

    def load(self, report_dir: Path) -> dict[str, dict[str, Run]]:
        """Candidate → reference of each of its runs → the run.

        Raises:
            UsageError: There is no such run, or one run stands twice under one name.
            StoreError: A run's file cannot be read.
        """
        found = {
            name: {reference: find_run(report_dir, reference) for reference in references}
            for name, references in self.runs.items()
        }
        for name, by_reference in found.items():
            if len(set(by_reference.values())) < len(self.runs[name]):
                msg = f"candidate {name!r}: found one run twice, expected a run per seed"
                raise UsageError(msg)
        return {
            name: {reference: load_run(path) for reference, path in by_reference.items()}
            for name, by_reference in found.items()
        }


def named_runs(arguments: Sequence[str]) -> NamedRuns:
    """The runs by candidate; a run without a name is named by its reference.

    Raises:
        UsageError: Two runs without names are the same, or a name is a word of the grammar of gates.
    """
    runs: dict[str, tuple[str, ...]] = {}
    are_named = False
    for argument in arguments:
        given = None if Path(argument).is_file() else _NAMED.fullmatch(argument)
        name = given["name"] if given else _own_name(argument)
        if name in RESERVED_NAMES:
            msg = f"run {argument!r}: found the name {name!r}, expected none of {', '.join(sorted(RESERVED_NAMES))}"
            raise UsageError(msg)
        if name in runs and not given and len(arguments) > 2:
            msg = f"run {argument!r}: found twice, expected each run once, or NAME=RUN"
            raise UsageError(msg)
        runs[name] = (*runs.get(name, ()), given["run"] if given else argument)
        are_named |= given is not None
    return NamedRuns(runs, are_named)


def show_candidates(
    candidates: Mapping[str, Mapping[str, Run]],
    gates: Sequence[Gate],
    *,
    html: str | None,
    markdown: str | None,
    as_json: bool,
) -> int:
    """Compare the candidates, write the reports that are asked for and print the result; 1 if a gate is not met.

    Args:
        candidates: Name → its run, or its runs by seed.
        gates: Gates to judge.
        html: File of the page; None writes none.
        markdown: File of the Markdown; None writes none.
        as_json: Whether one JSON document is printed instead of text.
    """
    lineup = Lineup(candidates)
    found, verdicts = candidate_set(lineup), judge_candidates(gates, lineup)
    if html:
        write_atomic(Path(html), candidate_html(found, verdicts))
    if markdown:
        write_atomic(Path(markdown), candidate_markdown(found, verdicts))
    if as_json:
        say_json(candidate_json(found, verdicts))
    else:
        for line in candidate_lines(found, verdicts, width=width(), encoding=encoding(), page=html or ""):
            say(line, style=line_colour(line))
    return 0 if session_passes(verdicts) else 1


def _own_name(reference: str) -> str:
    """The reference as a candidate's name; the stem of a file."""
    stem = Path(reference).stem if re.search(r"[/\\]|\.json$", reference) else reference
    return re.sub(r"[^\w+.-]", "-", stem).strip("+.-") or "run"
