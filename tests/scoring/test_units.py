from __future__ import annotations

from statistics import fmean

import pytest

from engram_bench.records import Run
from engram_bench.scoring.comparison import compare
from engram_bench.scoring.metrics import METRICS
from engram_bench.scoring.units import COUNTED, units
from tests.made_up import both, row, run_of


def a_run() -> Run:
    """Every metric of the cases, with a crash, a control that the bare model does not know and an unequal number of wordings."""
    rows = [
        both("facts/a", False, True, log_prob=-0.2, tokens=4),
        both("facts/b", True, False, category="ports", tokens=9, stop="length"),
        both("facts/c", None, None),
        both("facts/a/held-1", False, True, test="generalization"),
        both("facts/a/held-2", False, False, test="generalization"),
        both("controls/x", True, True, test="retention"),
        both("controls/y", True, False, test="retention"),
        both("controls/z", False, True, test="retention"),
        both("controls/w", False, False, test="retention", answers=()),
    ]
    for pattern, wordings in (("a", "1234"), ("b", "12")):
        rows += [both(f"facts/{pattern}/{n}", n == "1", n != "2", test="consistency", text=n) for n in wordings]
    for sample in (1, 2, 3):
        rows += [both("facts/a", sample == 1, sample < 3, test="consistency", sample=sample, text="404"[:sample])]
    return run_of(*rows)


def values(run: Run, side: str) -> dict[str, float]:
    return {name: fmean(getattr(unit, side) for unit in found) for name, found in units(run).items()}


@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_the_mean_of_the_units_is_the_value_of_the_metric(side: str) -> None:
    run = a_run()
    measures = {name: getattr(measure, side) for name, measure in compare(run).measures.items()}

    found = values(run, side)

    known = {name: each.value for name, each in measures.items() if each is not None and METRICS[name].test}
    assert {name: found[name] for name in known if name in found} == pytest.approx(
        {name: value for name, value in known.items() if name != "first_divergence"}
    )


def test_every_metric_of_the_cases_has_units_but_the_one_over_the_misses() -> None:
    from engram_bench.scoring.units import _PARTS

    assert _PARTS.keys() == {metric.name for metric in METRICS.values() if metric.test} - {"first_divergence"}
    assert _PARTS.keys() > COUNTED


def test_the_same_case_with_another_prompt_is_another_unit() -> None:
    first, second = (
        run_of([row("facts/a", side, True, prompt=prompt) for side in ("baseline", "candidate")])
        for prompt in ("One?", "Two?")
    )  # type: ignore[arg-type]

    assert units(first)["accuracy"][0].key != units(second)["accuracy"][0].key
    assert units(first)["accuracy"][0].key == units(first)["accuracy"][0].key


def test_a_unit_belongs_to_its_category_and_its_file() -> None:
    (unit,) = units(run_of(both("facts/a", True, True, category="ports")))["accuracy"]

    assert [unit.is_in(scope) for scope in ("", "category:ports", "file:facts", "category:http", "file:ports")] == [
        True
    ] * 3 + [False] * 2
