from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_bench.records import Comparison, Estimate, Measure
from engram_bench.reporting.plots import (
    LEFT,
    MAX_CATEGORIES,
    PLOTS,
    RIGHT,
    WIDTH,
    category_plot,
    loss_plot,
    plots,
    ratio_plot,
    standalone,
)
from engram_bench.scoring.comparison import compare
from tests.made_up import TRAINING, big_comparison, both, run_of

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_run_gives_the_plots_it_has_figures_for() -> None:
    training = replace(TRAINING, losses=(2.0, 1.0, 0.5))

    assert list(plots(big_comparison(), training)) == ["accuracy", "generalization", "retention", "speed", "loss"]
    assert set(PLOTS) >= set(plots(big_comparison(), training))
    assert plots(Comparison({}, {}, ()), None) == {}


def test_a_category_row_has_both_sides_at_their_values() -> None:
    comparison = compare(run_of(both("facts/a", False, True, category="x"), both("facts/b", True, False, category="y")))

    circles = [
        (element.get("class"), float(element.get("cx", "")))
        for element in ET.fromstring(category_plot(comparison, "accuracy")).iter(f"{SVG}circle")
    ]

    zero, full = LEFT, WIDTH - RIGHT
    assert circles[:4] == [("baseline", zero), ("candidate", full), ("baseline", full), ("candidate", zero)]


def test_the_total_comes_last_and_a_single_category_is_only_its_total() -> None:
    single = compare(run_of(both("facts/a", False, True)))

    assert texts(category_plot(big_comparison(), "accuracy"))[-3:] == ["all", "94.3 %", "+93.6 pp"]
    assert texts(category_plot(single, "accuracy"))[5:] == ["all", "100.0 %", "+100.0 pp"]


def test_of_many_categories_the_weakest_are_drawn() -> None:
    run = run_of(*(both(f"facts/{i}", False, i != 55, category=f"category-{i:02}") for i in range(60)))

    svg = category_plot(compare(run), "accuracy")

    assert sum(text.startswith("category-") for text in texts(svg)) == MAX_CATEGORIES
    assert "category-55" in texts(svg)
    assert f"The weakest {MAX_CATEGORIES} of 60 categories." in svg


def test_only_what_was_timed_is_in_the_plot_of_speed() -> None:
    perplexity = Measure("perplexity", "ppl", None, Estimate(52, 9), ratio=Estimate(1.17, 9, (1.04, 1.38)))

    assert "speed" not in plots(Comparison({"perplexity": perplexity}, {}, ()), None)


def test_a_ratio_lies_around_no_change() -> None:
    measure = Measure("decode_speed", "tok/s", None, Estimate(9, 8), ratio=Estimate(0.988, 8, (0.964, 1.012)))

    svg = ratio_plot("speed", [measure])

    assert texts(svg) == ["-4 %", "-2 %", "no change", "+2 %", "+4 %", "decode speed", "-1.2 %", "n 8"]


@pytest.mark.parametrize(
    ("losses", "ticks"),
    [((2.0, 0.02), ["0.01", "0.1", "1", "10"]), ((2.0, 1.0), ["0", "0.5", "1", "1.5", "2"])],
    ids=["logarithmic", "linear"],
)
def test_the_loss_scale_fits_its_span(losses: tuple[float, ...], ticks: list[str]) -> None:
    assert texts(loss_plot(replace(TRAINING, losses=losses)))[: len(ticks)] == ticks


@pytest.mark.parametrize("losses", [(), (1.0,), (float("nan"), 1.0)], ids=["none", "one", "nan"])
def test_no_curve_without_two_losses(losses: tuple[float, ...]) -> None:
    assert loss_plot(replace(TRAINING, losses=losses)) == ""


def test_a_long_training_is_thinned_and_keeps_its_last_step() -> None:
    svg = loss_plot(replace(TRAINING, losses=tuple(1 + 1 / (i + 1) for i in range(20_000))))

    found = ET.fromstring(svg).find(f"{SVG}polyline")
    assert found is not None
    points = found.get("points", "").split()
    assert len(points) <= 1501
    assert points[-1].startswith(f"{WIDTH - 24:.1f},")


def test_a_file_of_a_plot_brings_its_colours_and_stays_xml() -> None:
    file = standalone(category_plot(big_comparison(), "accuracy"))

    root = ET.fromstring(file)
    assert root.tag == f"{SVG}svg"
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")


@settings(max_examples=30)
@given(name=st.text(st.characters(exclude_categories=()), min_size=1, max_size=40))
def test_any_category_name_is_only_text(name: str) -> None:
    run = run_of(both("facts/a", False, True, category=name), both("facts/b", True, True, category="other"))

    root = ET.fromstring(category_plot(compare(run), "accuracy"))

    assert {element.tag for element in root.iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "title", "desc", "text", "line", "rect", "circle")
    }
