"""A candidate set as tables: figures, ranks, the matrix of pairs, seeds, flaky cases. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from engram_bench.door import printable
from engram_bench.records import Estimate
from engram_bench.records.candidates import Candidate, CandidatePair, CandidateSet
from engram_bench.reporting.tables import ReportTable, side_words
from engram_bench.scoring.figures import change, figure, number
from engram_bench.scoring.metrics import METRICS

HEADLINES = (
    "accuracy",
    "generalization",
    "consistent_accuracy",
    "retention",
    "agreement",
    "perplexity",
    "decode_speed",
)
"""Measures that a terminal shows; the page, the Markdown and the JSON have all."""
RANKED = ("accuracy", "generalization", "consistent_accuracy", "retention")
"""Measures whose pairs a report shows; the JSON has those of all measures."""
WIDEST_MATRIX = 8
"""Largest number of candidates whose matrix fits a terminal; more candidates are listed by whom they beat."""
NAME_WIDTH = 20
"""Longest name of a candidate in a terminal, in characters."""

REAL = "*"
"""Mark of a difference that is real."""


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    cells: tuple[str, ...]


# ── figures and ranks ───────────────────────────────────────────────────────────────────────────


def figure_tables(found: CandidateSet, *, only: Sequence[str] = (), width: int | None = None) -> list[ReportTable]:
    """A row per candidate and a column per measure, each value with its interval and n; several tables where one is too wide.

    Args:
        found: Candidates.
        only: Measures to show; all without any.
        width: Columns of the terminal; None for a page, which takes all measures in one table.
    """
    names = [name for name in METRICS if any(name in each.measures for each in found.candidates)]
    columns = [_measure_column(found, name) for name in names if not only or name in only]
    if any(each.train_s for each in found.candidates):
        columns.append(_Column("training\ns", tuple(_seconds(each.train_s) for each in found.candidates)))
    return _tables("figures (rates in %, with 95 % interval)", found, columns, width)


def rank_tables(found: CandidateSet, *, only: Sequence[str] = (), width: int | None = None) -> list[ReportTable]:
    """A row per candidate and a column per measure with its rank.

    Args:
        found: Candidates.
        only: Measures to show; all without any.
        width: Columns of the terminal; None for a page.
    """
    columns = [
        _Column(metric, tuple(by_name.get(each.name, "") for each in found.candidates))
        for metric, by_name in found.ranks.items()
        if not only or metric in only
    ]
    return _tables("ranks", found, columns, width) if columns else []


def numbered(found: CandidateSet, names: Iterable[str]) -> str:
    """The numbers of these candidates, neighbours joined: ``1, 3–5``."""
    numbers = sorted(number for number, each in enumerate(found.candidates, start=1) if each.name in set(names))
    spans: list[list[int]] = []
    for each in numbers:
        if spans and each == spans[-1][-1] + 1:
            spans[-1].append(each)
        else:
            spans.append([each])
    return ", ".join(f"{span[0]}–{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _measure_column(found: CandidateSet, metric: str) -> _Column:
    unit = METRICS[metric].unit
    estimates = [each.measures.get(metric) for each in found.candidates]
    sizes = {estimate.n for estimate in estimates if estimate is not None}
    same = len(sizes) == 1
    cells = tuple(_words(estimate, unit, with_n=not same) for estimate in estimates)
    return _Column(f"{metric}\nn {min(sizes)}" if same else metric, cells)


def _words(estimate: Estimate | None, unit: str, *, with_n: bool) -> str:
    if estimate is None:
        return ""
    value = side_words(estimate, unit)
    if unit != "rate" and estimate.interval is not None:
        value = f"{number(estimate.value, unit)} ({'–'.join(number(bound, unit) for bound in estimate.interval)})"
    return f"{value}, n {estimate.n}" if with_n else value


def _seconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.0f}"


def _tables(title: str, found: CandidateSet, columns: Sequence[_Column], width: int | None) -> list[ReportTable]:
    """One table of these columns, or as many as the width makes necessary."""
    leading = (
        _Column("#", tuple(str(number) for number in range(1, len(found.candidates) + 1))),
        _Column("candidate", tuple(_name(each, width) for each in found.candidates)),
    )
    tables: list[ReportTable] = []
    taken: list[_Column] = []
    for column in columns:
        wider = _table(title, (*leading, *taken, column))
        if taken and width is not None and max(map(len, wider.plain())) > width:
            tables.append(_table(title, (*leading, *taken)))
            taken = []
        taken.append(column)
    tables.append(_table(title, (*leading, *taken)))
    return [tables[0], *(replace(table, title=f"{title}, continued") for table in tables[1:])]


def _table(title: str, columns: Sequence[_Column]) -> ReportTable:
    return ReportTable(
        title,
        tuple(column.header for column in columns),
        "rl" + "r" * (len(columns) - 2),
        tuple(zip(*(column.cells for column in columns), strict=True)),
    )


def _name(candidate: Candidate, width: int | None) -> str:
    name = candidate.name if width is None else printable(candidate.name, NAME_WIDTH)
    return f"{name} ({len(candidate.runs)} seeds)" if candidate.is_recipe else name


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────


def pairs_by_metric(found: CandidateSet, only: Sequence[str] = RANKED) -> dict[str, list[CandidatePair]]:
    """Measure → its pairs, for those of *only* that were tested."""
    pairs = {metric: [pair for pair in found.pairs if pair.metric == metric] for metric in only}
    return {metric: each for metric, each in pairs.items() if each}


def matrix_table(found: CandidateSet, metric: str, *, width: int | None = None) -> ReportTable:
    """The difference of every two candidates, the row less the column; a real one has ``*``.

    Args:
        found: Candidates.
        metric: A measure with pairs.
        width: Columns of the terminal; None for a page. More than ``WIDEST_MATRIX`` candidates in a terminal become a list
            of those whom each really beats and loses to.
    """
    if width is not None and len(found.candidates) > WIDEST_MATRIX:
        return _beaten_table(found, metric, width)
    unit = METRICS[metric].unit
    cells = {
        key: words
        for pair in found.pairs
        if pair.metric == metric
        for key, words in (
            ((pair.first, pair.second), _difference(pair, unit, 1)),
            ((pair.second, pair.first), _difference(pair, unit, -1)),
        )
    }
    names = [each.name for each in found.candidates]
    amounts = "pp" if unit == "rate" else unit
    return ReportTable(
        f"{metric}: row less column ({amounts})",
        ("#", "candidate", *(str(number) for number in range(1, len(names) + 1))),
        "rl" + "r" * len(names),
        tuple(
            (str(index), _name(each, width), *(cells.get((each.name, other), "") for other in names))
            for index, each in enumerate(found.candidates, start=1)
        ),
    )


def _difference(pair: CandidatePair, unit: str, sign: int) -> str:
    words = change(sign * pair.difference.value, unit).split(" ")[0]
    return f"{words}{REAL}" if pair.outcome != "no_difference" else words


def _beaten_table(found: CandidateSet, metric: str, width: int) -> ReportTable:
    beats: dict[str, list[str]] = {each.name: [] for each in found.candidates}
    beaten_by = dict.fromkeys(beats, 0)
    for pair in found.pairs:
        if pair.metric == metric and pair.outcome != "no_difference":
            winner, loser = (pair.first, pair.second) if pair.outcome == "better" else (pair.second, pair.first)
            beats[winner].append(loser)
            beaten_by[loser] += 1
    ranks = found.ranks.get(metric, {})
    return ReportTable(
        f"{metric}: who is really better than whom",
        ("#", "candidate", "rank", "beaten by", "better than"),
        "rlrrl",
        tuple(
            (
                str(index),
                _name(each, width),
                ranks.get(each.name, ""),
                str(beaten_by[each.name]),
                numbered(found, beats[each.name]),
            )
            for index, each in enumerate(found.candidates, start=1)
        ),
    )


def pair_table(pairs: Sequence[CandidatePair], markup: Callable[[str], str] = str) -> ReportTable:
    """Every pair of one measure with its evidence; *markup* turns a name into the markup of a report."""
    words = {"better": "first is better", "worse": "second is better", "no_difference": "no real difference"}
    rows = tuple(
        (
            markup(pair.first),
            markup(pair.second),
            str(pair.difference.n),
            str(pair.unpaired),
            interval_words(pair.difference, METRICS[pair.metric].unit),
            f"{pair.better}/{pair.worse}",
            f"{pair.p_value:.2g}",
            f"{pair.adjusted:.2g}",
            words[pair.outcome],
        )
        for pair in pairs
    )
    headers = ("first", "second", "n", "not shared", "difference", "better/worse", "p", "Holm's p", "verdict")
    return ReportTable("", headers, "llrrrrrrl", rows)


def interval_words(difference: Estimate, unit: str) -> str:
    """A difference with its interval: ``+3.5 pp (+0.2 to +6.8)``."""
    bounds = [change(bound, unit).split(" ")[0] for bound in difference.interval or ()]
    return change(difference.value, unit) + (f" ({' to '.join(bounds)})" if bounds else "")


# ── seeds ───────────────────────────────────────────────────────────────────────────────────────


def spread_table(found: CandidateSet, only: Sequence[str] = ()) -> ReportTable | None:
    """Mean, spread and worst seed of every recipe and measure; None without a recipe that has several seeds."""
    rows = []
    for each in found.spreads:
        if only and each.metric not in only:
            continue
        unit = METRICS[each.metric].unit
        share = "" if each.seeds_share is None else f"{100 * each.seeds_share:.0f} %"
        worst = f"{each.worst_seed}: {figure(each.values[each.worst_seed], unit)}"
        rows.append(
            (
                each.name,
                each.metric,
                str(len(each.values)),
                number(each.mean, unit),
                number(each.sd, unit),
                f"{number(each.low, unit)}–{number(each.high, unit)}",
                share,
                worst,
            )
        )
    headers = ("recipe", "measure", "seeds", "mean", "sd", "range", "error\nof seeds", "worst seed")
    return ReportTable("spread over seeds (rates in %)", headers, "llrrrrrl", tuple(rows)) if rows else None


def flaky_table(found: CandidateSet, markup: Callable[[str], str] = str, limit: int = 1000) -> ReportTable | None:
    """Cases that are correct under some seeds only; None without any."""
    rows = tuple(
        (markup(each.name), markup(each.case_id), markup(", ".join(each.right)), markup(", ".join(each.wrong)))
        for each in found.flaky[:limit]
    )
    more = f", the first {limit}" if len(found.flaky) > limit else ""
    title = f"flaky: right under some seeds only ({len(found.flaky)}{more})"
    return ReportTable(title, ("recipe", "case", "right", "wrong"), "llll", rows) if rows else None
