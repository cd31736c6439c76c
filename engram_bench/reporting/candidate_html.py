"""A candidate set as one self-contained page: it needs no network, and no JavaScript to be read.

The page follows the rules of :mod:`engram_bench.reporting.html`: its policy allows its own style and script by their
hashes and nothing else, and every text from outside is escaped and made printable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from engram_bench.door import printable
from engram_bench.records import Verdict
from engram_bench.records.candidates import CandidateSet, CaseOfAll
from engram_bench.reporting.candidate_plot import pareto_plot
from engram_bench.reporting.candidate_tables import (
    figure_tables,
    flaky_table,
    matrix_table,
    numbered,
    pair_table,
    pairs_by_metric,
    rank_tables,
    spread_table,
)
from engram_bench.reporting.candidate_terminal import right_and_wrong
from engram_bench.reporting.candidate_words import head_sentences, pareto_sentences
from engram_bench.reporting.page import asset, environment, policy
from engram_bench.reporting.words import OUTCOMES
from engram_bench.scoring.gates import session_passes

MAX_PAIRS = 200
"""Largest number of pairs listed per measure; the JSON has all."""
MAX_CASES = 1000
"""Largest number of cases on the page; the JSON has all."""
TEXT = 400
"""Longest answer of the list of cases, in characters."""


def candidate_html(found: CandidateSet, verdicts: Sequence[Verdict] = ()) -> str:
    """The whole set as an HTML page that ends with a newline.

    The cases on which candidates disagree come first, then those that all have wrong; of more than ``MAX_CASES`` the
    others are left out, and the page says how many there are.
    """
    from markupsafe import Markup

    style = asset("plot.css") + asset("report.css") + asset("candidates.css")
    script = asset("candidates.js")
    tone, title = _banner(found, verdicts)
    page = (
        environment()
        .get_template("candidates.html")
        .render(
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            names=[each.name for each in found.candidates],
            tone=tone,
            title=title,
            head=list(head_sentences(found)),
            verdicts=verdicts,
            outcomes=OUTCOMES,
            figures=figure_tables(found),
            ranks=rank_tables(found),
            matrices=[
                (matrix_table(found, metric), pair_table(pairs[:MAX_PAIRS]), max(0, len(pairs) - MAX_PAIRS))
                for metric, pairs in pairs_by_metric(found).items()
            ],
            plot=Markup(pareto_plot(found)),
            pareto=list(pareto_sentences(found)),
            spread=spread_table(found),
            flaky=flaky_table(found),
            num_cases=len(found.cases),
            cases=[_case(found, case) for case in _listed(found)],
        )
    )
    return page.strip() + "\n"


def _banner(found: CandidateSet, verdicts: Sequence[Verdict]) -> tuple[str, str]:
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    judged = len(verdicts) - outcomes["not_measured"]
    if not judged:
        return "none", f"{len(found.candidates)} candidates compared"
    if session_passes(verdicts):
        return "pass", "The gate is met" if judged == 1 else f"All {judged} gates are met"
    if outcomes["fail"]:
        return "fail", f"{outcomes['fail']} of {judged} gates failed"
    return "insufficient", f"{outcomes['insufficient']} of {judged} gates are insufficient"


def _listed(found: CandidateSet) -> list[CaseOfAll]:
    """Cases in order of interest: candidates disagree, all are wrong, all are right."""

    def interest(case: CaseOfAll) -> float:
        shares = {share for share in case.right if share is not None}
        return 0 if len(shares) > 1 else 1 + max(shares, default=0.0)

    return sorted(found.cases, key=interest)[:MAX_CASES]


def _case(found: CandidateSet, case: CaseOfAll) -> dict[str, Any]:
    right, wrong, some = (numbered(found, names) for names in right_and_wrong(found, case))
    by_answer: dict[str, list[str]] = {}
    for candidate, answer, share in zip(found.candidates, case.answers, case.right, strict=True):
        if share is not None:
            by_answer.setdefault(answer, []).append(candidate.name)
    return {
        "id": case.case_id,
        "where": f"{case.split.replace('_', '-')}, {case.category}, {case.source}",
        "marks": "".join("-" if share is None else "2" if 0 < share < 1 else str(int(share)) for share in case.right),
        "right": right,
        "wrong": wrong,
        "some": some,
        "prompt": printable(case.prompt, TEXT),
        "expected": printable(case.expected, TEXT),
        "answers": [(numbered(found, names), printable(answer, TEXT)) for answer, names in by_answer.items()],
    }
