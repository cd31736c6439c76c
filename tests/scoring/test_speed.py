from __future__ import annotations

import pytest

from engram_bench.records import Measure, Run, Side, SpeedRounds
from engram_bench.records.plain import from_plain, to_plain
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.gates import judge, parse_gate
from engram_bench.scoring.speed import speed_measure, speed_measures, summarise
from tests.made_up import PROVENANCE


def rounds(
    seconds: list[float],
    baseline_s: list[float] | None = None,
    *,
    test: str = "decode_speed",
    side: Side = "fused",
    batch: int = 1,
) -> SpeedRounds:
    """Rounds of 16 tokens."""
    return SpeedRounds(test, side, tuple(seconds), (16,) * len(seconds), tuple(baseline_s or ()), batch)


def ratio(measure: Measure) -> float:
    assert measure.ratio is not None
    return measure.ratio.value


def test_speed_is_tokens_over_the_median_time() -> None:
    measure = speed_measure("decode_speed", rounds([1.0, 2.0, 4.0], [1.0, 1.0, 1.0]))

    assert measure.candidate is not None
    assert measure.baseline is not None
    assert (measure.candidate.value, measure.baseline.value) == (8.0, 16.0)


def test_the_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians() -> None:
    measure = speed_measure("decode_speed", rounds([1.0, 10.0, 200.0], [2.0, 20.0, 100.0]))

    assert ratio(measure) == 2.0


def test_slower_is_below_one_for_speed_and_above_one_for_time() -> None:
    slow = rounds([2.0, 2.0], [1.0, 1.0])

    assert ratio(speed_measure("decode_speed", slow)) == 0.5
    assert ratio(speed_measure("first_token", slow)) == 2.0


def test_one_round_after_a_suspended_machine_does_not_move_the_ratio() -> None:
    measure = speed_measure("decode_speed", rounds([1.0] * 7 + [9_000.0], [1.0] * 8))

    assert ratio(measure) == 1.0


def test_each_metric_is_that_of_its_side() -> None:
    speed = (
        rounds([1.0] * 4, side="baseline"),
        rounds([2.0] * 4, [1.0] * 4, side="candidate"),
        rounds([1.0] * 4, [1.0] * 4, side="fused"),
    )

    measures = speed_measures(speed)

    assert {name: ratio(measure) for name, measure in measures.items()} == {
        "decode_speed": 1.0,
        "attached_decode_speed": 0.5,
    }


def test_throughput_is_that_of_the_largest_batch() -> None:
    speed = tuple(rounds([1.0] * 4, [float(batch)] * 4, test="batch_throughput", batch=batch) for batch in (32, 8))

    assert ratio(speed_measures(speed)["batch_throughput"]) == 32.0
    assert [summary.metric for summary in summarise(speed)] == ["batch_throughput", ""]


def test_peak_memory_sets_the_adapter_against_the_bare_model() -> None:
    speed = (
        SpeedRounds("decode_speed", "baseline", (1.0,), (16,), peak_memory_mb=900.0),
        SpeedRounds("decode_speed", "candidate", (1.0,), (16,), (1.0,), peak_memory_mb=950.0),
    )

    memory = speed_measures(speed)["peak_memory"]

    assert memory.baseline is not None
    assert memory.candidate is not None
    assert (memory.baseline.value, memory.candidate.value) == (900.0, 950.0)


def test_a_summary_has_percentiles_and_spread() -> None:
    (summary,) = summarise([rounds([0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5])])

    assert (summary.rounds, summary.p50_s) == (5, 0.3)
    assert summary.p90_s == pytest.approx(0.46)
    assert summary.tok_s_iqr == (40.0, 80.0)
    assert summary.ratios == (1.0,) * 5


def test_loading_has_no_tokens_a_second() -> None:
    (summary,) = summarise([SpeedRounds("load_time", "candidate", (2.0, 3.0), (0, 0))])

    assert (summary.tok_s, summary.ratio, summary.p50_s) == (None, None, 2.5)


@pytest.mark.parametrize(
    ("slowdown", "outcome"),
    [(1.0, "pass"), (1.04, "pass"), (1.10, "fail")],
    ids=["same", "4 % slower", "10 % slower"],
)
def test_the_default_gate_judges_fused_against_baseline(slowdown: float, outcome: str) -> None:
    base = [1.0, 1.001, 0.999, 1.002, 0.998, 1.0, 1.001, 0.999]
    run = Run("", PROVENANCE, speed=(rounds([slowdown * each for each in base], base),))

    (verdict,) = judge([parse_gate("decode_speed >= -5%")], compare(run))

    assert verdict.outcome == outcome


def test_a_straddling_interval_is_insufficient() -> None:
    run = Run("", PROVENANCE, speed=(rounds([1.0, 1.2, 1.0, 1.2, 0.9, 1.1], [1.0] * 6),))

    (verdict,) = judge([parse_gate("decode_speed >= -5%")], compare(run))

    assert verdict.outcome == "insufficient"


def test_rounds_survive_a_saved_run() -> None:
    run = Run("", PROVENANCE, speed=(rounds([1.0, 2.0], [1.0, 1.0], batch=8),))

    assert from_plain(Run, to_plain(run)) == run
