from __future__ import annotations

import pytest

from engram_bench.records import Estimate
from engram_bench.scoring.figures import change, counts, figure


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9541, "rate", "95.4 %"),
        (0.0, "rate", "0.0 %"),
        (24.81, "tok/s", "24.8 tok/s"),
        (4.0, "tokens", "4.0 tokens"),
        (0.03124, "seconds", "0.0312 seconds"),
        (-0.0104, "nats", "-0.0104 nats"),
        (12.3456, "ppl", "12.35 ppl"),
        (2048.4, "MB", "2048 MB"),
        (3.14, "", "3.1"),
    ],
)
def test_a_figure_has_its_unit(value: float, unit: str, text: str) -> None:
    assert figure(value, unit) == text


@pytest.mark.parametrize(
    ("difference", "unit", "text"),
    [
        (0.9541, "rate", "+95.4 pp"),
        (-0.1, "rate", "-10.0 pp"),
        (-0.00001, "rate", "+0.0 pp"),
        (0.0, "rate", "+0.0 pp"),
        (-27.1, "tokens", "-27.1 tokens"),
        (-0.01, "tokens", "+0.0 tokens"),
        (2.487, "nats", "+2.49 nats"),
    ],
)
def test_a_change_has_its_sign_and_never_a_negative_zero(difference: float, unit: str, text: str) -> None:
    assert change(difference, unit) == text


def test_only_a_counted_rate_has_counts() -> None:
    assert counts(Estimate(0.5, 4, None, 2)) == "2 of 4"
    assert counts(Estimate(0.5, 4)) == ""
