from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engram_bench.records import Run, Side, SpeedRounds
from engram_bench.reporting.html import html_report
from engram_bench.reporting.json_report import json_report
from engram_bench.reporting.markdown import markdown_report
from engram_bench.reporting.plots import plots
from engram_bench.reporting.speed_table import speed_table
from engram_bench.reporting.terminal import comparison_lines
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import judge, parse_gate
from tests.made_up import PROVENANCE

NOISE = (1.0, 1.02, 0.98, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0, 1.0)
WHERE = "2 threads on 2 cores, 2600 MHz"


def rounds(test: str, side: Side, slower: float = 1.0, *, batch: int = 1, tokens: int = 16) -> SpeedRounds:
    """Ten rounds of about 0.64 s, *slower* times that."""
    baseline_s = tuple(0.64 * each for each in NOISE)
    return SpeedRounds(
        test,
        side,
        tuple(slower * each for each in reversed(baseline_s)),
        (tokens * batch,) * 10,
        () if side == "baseline" else baseline_s,
        batch,
        900.0,
        WHERE,
    )


RUN = Run(
    "0009-20261121-8f1d427",
    PROVENANCE,
    speed=(
        rounds("decode_speed", "baseline"),
        rounds("decode_speed", "candidate", 1.45),
        rounds("decode_speed", "fused"),
        rounds("batch_throughput", "fused", 2.0, batch=8),
        rounds("batch_throughput", "fused", 4.0, batch=32),
        rounds("first_token", "fused", 0.1, tokens=1),
        rounds("time_to_answer", "fused", 0.3, tokens=3),
        rounds("load_time", "candidate", 0.9, tokens=0),
    ),
)
COMPARISON = compare(RUN)
VERDICTS = judge([parse_gate("decode_speed >= -5%"), parse_gate("attached_decode_speed >= -35%")], COMPARISON)
JSON = json_report(RUN, COMPARISON, VERDICTS)


def row_of(start: str) -> str:
    """The terminal's line of one timed side."""
    lines = comparison_lines(RUN, COMPARISON, VERDICTS, width=120)
    (line,) = [line for line in lines if line.startswith(start)]
    return line


def test_a_run_without_timed_sides_has_no_speed_section() -> None:
    assert speed_table(compare(Run("", PROVENANCE))) is None


def test_a_side_has_rounds_speed_spread_and_percentiles() -> None:
    assert row_of("decode speed    baseline").split() == [
        "decode",
        "speed",
        "baseline",
        "10",
        "25.0",
        "(24.8–25.2)",
        "640/647",
    ]


def test_the_ratio_stands_with_its_interval_and_verdict() -> None:
    assert row_of("decode speed    fused").endswith("(-1.0 to +1.0), gate passed")
    assert "-31.0 %" in row_of("decode speed    candidate")


def test_every_batch_has_a_row() -> None:
    assert row_of("batch of 8").split()[5] == "100.0"
    assert row_of("batch of 32").split()[5] == "200.0"


def test_the_title_says_under_which_conditions() -> None:
    table = speed_table(COMPARISON)

    assert table is not None
    assert WHERE in table.title


def test_metrics_of_the_section_are_not_listed_again() -> None:
    lines = comparison_lines(RUN, COMPARISON, VERDICTS, width=120)

    assert not [line for line in lines if line.startswith(("decode_speed", "first_token", "load_time"))]
    assert [line for line in lines if line.startswith("peak_memory")]


def test_the_section_fits_eighty_columns() -> None:
    lines = comparison_lines(RUN, COMPARISON, (), width=80)

    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metrics.decode_speed.baseline.tok_s", 25.0),
        ("metrics.decode_speed.candidate.tok_s", 25.0 / 1.45),
        ("metrics.decode_speed.fused.tok_s", 25.0),
        ("metrics.decode_speed.fused.rounds", 10),
        ("metrics.decode_speed.fused.p50_ms", 640.0),
        ("metrics.decode_speed.fused.peak_memory_mb", 900.0),
        ("metrics.decode_speed.ratio.n", 10),
        ("metrics.attached_decode_speed.ratio.n", 10),
        ("metrics.batch_throughput.fused.batch", 32),
        ("metrics.batch_throughput.baseline.tok_s", 800.0),
        ("metrics.first_token.fused.p50_ms", 64.0),
        ("metrics.first_token.baseline.tok_s", None),
        ("metrics.load_time.candidate.value", 0.576),
    ],
)
def test_a_figure_is_where_readers_of_the_json_look_for_it(path: str, value: object) -> None:
    found: Any = JSON
    for key in path.split("."):
        found = found[key]

    assert found == pytest.approx(value)


def test_json_has_the_interval_beside_the_ratio_and_every_pair() -> None:
    metric = JSON["metrics"]["decode_speed"]

    assert metric["interval"] == metric["ratio"]["interval"]
    assert [len(side["ratios"]) for side in JSON["speed"]] == [0, *[10] * 7]


def test_pages_have_the_section() -> None:
    for page in (markdown_report(RUN, COMPARISON, VERDICTS), html_report(RUN, COMPARISON, VERDICTS)):
        assert "time to answer" in page
        assert "640/647" in page


def test_the_plot_shows_every_pair() -> None:
    pairs = sum(len(summary.ratios) for summary in COMPARISON.speed if summary.metric)

    assert plots(COMPARISON, None)["speed"].count('class="pair"') == pairs


def test_sides_without_pairs_draw_no_plot() -> None:
    alone = replace(RUN, speed=(rounds("decode_speed", "baseline"),))

    assert "speed" not in plots(compare(alone), None)
