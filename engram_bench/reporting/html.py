"""The comparison as one self-contained page: ``reports/latest.html``.

The page uses no network and no inline handler: its policy allows its own style and script by their hashes and nothing else.
Text of a model or a pattern file stays text: autoescaping covers the markup, and the script puts the ledger's JSON into
text nodes only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from engram_bench.door import printable
from engram_bench.records import Comparison, Estimate, LedgerEntry, Measure, Run, State, Verdict
from engram_bench.reporting.guard_report import guard_table
from engram_bench.reporting.page import LONGEST_TEXT, asset, environment, policy, script_json
from engram_bench.reporting.plots import plots
from engram_bench.reporting.speed_table import speed_table
from engram_bench.reporting.tables import SPLITS, TABLED, category_table, measure_table, section_of
from engram_bench.reporting.words import OUTCOMES, change_words, outside, run_lines
from engram_bench.scoring.figures import counts, figure, number
from engram_bench.scoring.gates import parse_gate, session_passes
from engram_bench.scoring.metrics import METRICS

CARDS = (
    "accuracy",
    "generalization",
    "consistent_accuracy",
    "paraphrase_consistency",
    "retention",
    "decode_speed",
    "first_token",
    "perplexity",
)
"""Measures with a card, in order; a measure without values has none."""

SECTIONS = {
    "generalization": "Wordings of the same patterns that were never trained on.",
    "consistency": "Whether every wording and every sampled repeat gets the same answer.",
    "retention": "Unrelated questions: the candidate must still answer what the baseline knew.",
    "speed": "Both sides are timed in pairs in one process, so that the machine cancels out.",
}
"""Section after the ledger → one sentence on its contents."""

STATES: tuple[State, ...] = ("broken", "still_wrong", "fixed", "still_right")
"""States in the order of the page, the ones to look at first."""

BYTES_PER_CASE = 700
"""Size of the ledger per case, on average: 1,000 cases of any length stay under 1 MB."""


def html_report(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """The whole comparison as an HTML page that ends with a newline.

    Texts of the ledger are cut where the cases would take more than ``BYTES_PER_CASE`` each on average; a text that was cut
    ends in ``…``. Control characters are written out.
    """
    from markupsafe import Markup

    style, script = asset("plot.css") + asset("report.css"), asset("report.js")
    page = (
        environment()
        .get_template("report.html")
        .render(
            policy=policy(style, script),
            style=Markup(style),
            script=Markup(script),
            run=run,
            banner=_banner(run, comparison, verdicts),
            guards=guard_table(run),
            verdicts=verdicts,
            outcomes=OUTCOMES,
            cards=[_card(comparison.measures[name], verdicts) for name in CARDS if name in comparison.measures],
            plots={name: Markup(svg) for name, svg in plots(comparison, run.training).items()},
            tables={metric: category_table(comparison, metric) for metric in TABLED},
            sections=[_section(name, about, comparison) for name, about in SECTIONS.items()],
            others=measure_table(
                comparison, only=[name for name in comparison.measures if section_of(name) == "answers"]
            ),
            states=_state_counts(comparison.ledger),
            tally={
                words: _state_counts(entry for entry in comparison.ledger if entry.split == split)
                for split, words in SPLITS.items()
                if any(entry.split == split for entry in comparison.ledger)
            },
            ledger=Markup(ledger_json(comparison.ledger)),
            ledger_size=len(comparison.ledger),
            outside=outside(comparison),
            provenance=run_lines(run),
        )
    )
    return page.rstrip() + "\n"


def ledger_json(ledger: Sequence[LedgerEntry]) -> str:
    """The ledger as JSON that is safe inside a ``<script>`` element: each name once, and a row per case."""
    longest = LONGEST_TEXT
    while True:
        text = _ledger_text(ledger, longest)
        if len(text.encode()) <= BYTES_PER_CASE * max(len(ledger), 300) or longest <= 40:
            return text
        longest //= 2


def _ledger_text(ledger: Sequence[LedgerEntry], longest: int) -> str:
    splits = list(SPLITS)
    categories = list(dict.fromkeys(entry.category for entry in ledger))
    paths = list(dict.fromkeys(entry.source.path for entry in ledger))
    category_index = {name: index for index, name in enumerate(categories)}
    path_index = {name: index for index, name in enumerate(paths)}
    rows = [
        [
            printable(entry.case_id, 200),
            STATES.index(entry.state),
            splits.index(entry.split),
            category_index[entry.category],
            path_index[entry.source.path],
            entry.source.line,
            _shown(entry.prompt, longest),
            _shown(entry.expected, longest),
            _shown(entry.baseline, longest),
            _shown(entry.candidate, longest),
            _shown(entry.reason, min(longest, 400)),
            int(entry.required),
            *_reasoning(entry, longest),
        ]
        for entry in ledger
    ]
    data = {
        "states": [_words(state) for state in STATES],
        "splits": list(SPLITS.values()),
        "categories": [printable(name, 100) for name in categories],
        "paths": [printable(path, 300) for path in paths],
        "rows": rows,
    }
    return script_json(data)


def _reasoning(entry: LedgerEntry, longest: int) -> list[str]:
    """Both sides' reasoning; nothing for the many cases where no model thought aloud."""
    texts = (entry.baseline_reasoning, entry.candidate_reasoning)
    return [_shown(text, longest) for text in texts] if any(texts) else []


def _shown(text: str, longest: int) -> str:
    """*text* with its lines kept and control characters written out, cut after *longest* characters."""
    shown = "\n".join(map(printable, text[: longest + 1].replace("\r\n", "\n").split("\n")))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


# ── parts of the page ───────────────────────────────────────────────────────────────────────────


def _banner(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The outcome of the run in one line."""
    found = Counter(verdict.outcome for verdict in verdicts)
    judged = len(verdicts) - found["not_measured"]
    if broken := sum(guard.outcome == "broken" for guard in run.guards):
        tone, title = "fail", "A sanity guard is broken" if broken == 1 else f"{broken} sanity guards are broken"
    elif comparison.unscored:
        tone, title = "fail", "Not every case could be scored"
    elif not judged:
        tone, title = "none", "No gate was judged"
    elif session_passes(verdicts):
        tone, title = "pass", "The gate is met" if judged == 1 else f"All {judged} gates are met"
    elif found["fail"]:
        tone, title = "fail", f"{found['fail']} of {judged} gates failed"
    else:
        tone, title = "insufficient", f"{found['insufficient']} of {judged} gates are insufficient"
    return {"tone": tone, "title": title}


def _card(measure: Measure, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The card of a measure: its figures, its interval, and the verdicts of its gates."""
    return {
        "name": measure.name.replace("_", " "),
        "meaning": METRICS[measure.name].meaning,
        "value": _figure(measure.candidate, measure.unit).partition(" ")[::2] if measure.candidate else (),
        "interval": _interval(measure.candidate, measure.unit),
        "baseline": _figure(measure.baseline, measure.unit),
        "change": re.findall(r"\([^)]*\)|[^(]+", change_words(measure)),
        "support": counts(measure.candidate) if measure.candidate and measure.candidate.passed is not None else "",
        "n": measure.candidate.n if measure.candidate else 0,
        "note": measure.note,
        "gates": [v for v in verdicts if v.outcome != "not_measured" and _judges(v, measure.name)],
        "bars": _bars(measure) if measure.unit == "rate" else (),
    }


def _judges(verdict: Verdict, metric: str) -> bool:
    """Whether the verdict judges the metric over all cases, not over a slice."""
    gate = parse_gate(verdict.gate)
    return (gate.scope, gate.metric) == ("", metric)


def _bars(measure: Measure) -> list[dict[str, Any]]:
    """Positions of both sides and their intervals, 0..100, for a strip under the figures."""
    sides = (("baseline", measure.baseline), ("candidate", measure.candidate))
    return [
        {
            "side": side,
            "at": round(100 * estimate.value, 1),
            "low": round(100 * (estimate.interval or (estimate.value,))[0], 1),
            "width": round(100 * (estimate.interval[1] - estimate.interval[0]), 1) if estimate.interval else 0,
        }
        for side, estimate in sides
        if estimate is not None
    ]


def _section(name: str, about: str, comparison: Comparison) -> dict[str, Any]:
    found = [measure.name for measure in comparison.measures.values() if section_of(measure.name) == name]
    table = measure_table(comparison, only=found) if found else None
    if name == "speed":
        table = speed_table(comparison) or table
    return {"name": name, "about": about, "table": table}


def _figure(estimate: Estimate | None, unit: str) -> str:
    return "" if estimate is None else figure(estimate.value, unit).replace(" seconds", " s")


def _interval(estimate: Estimate | None, unit: str) -> str:
    if estimate is None or estimate.interval is None:
        return ""
    low, high = (number(bound, unit) for bound in estimate.interval)
    return f"{low} to {high}"


def _state_counts(ledger: Iterable[LedgerEntry]) -> dict[str, int]:
    found = Counter(entry.state for entry in ledger)
    return {_words(state): found[state] for state in STATES}


def _words(state: str) -> str:
    return state.replace("_", " ")
