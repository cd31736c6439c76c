"""The plot of the variants."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from engram_bench.records import Estimate
from engram_bench.reporting.variants import LINE, variants_plot
from engram_bench.scoring.variants import VariantRow

shares = st.floats(0, 1).map(lambda value: Estimate(value, 10, None))
rows = st.builds(
    lambda held_out, agreement: VariantRow("lora", 10, held_out=held_out, agreement=agreement), shares, shares
)


@given(st.lists(rows, min_size=1, max_size=12))
def test_labels_stay_apart_and_above_the_axis(placed: list[VariantRow]) -> None:
    texts = list(ElementTree.fromstring(variants_plot(placed)).iter("{http://www.w3.org/2000/svg}text"))
    labels = [(each.get("class", ""), float(each.get("y", "nan"))) for each in texts if each.text == "lora"]
    axis = max(float(each.get("y", "nan")) for each in texts if each.text == "0 %")

    assert len(labels) == len(placed)
    for side in ("halo", "end halo"):
        heights = sorted(at for class_, at in labels if class_ == side)
        assert all(lower - upper >= LINE - 0.2 for upper, lower in pairwise(heights))  # drawn to a tenth
        assert not heights or 0 < heights[0] <= heights[-1] <= axis - LINE


def test_a_label_alone_stands_at_its_point() -> None:
    row = VariantRow("lora", 10, held_out=Estimate(0.5, 10, None), agreement=Estimate(0.25, 10, None))
    plot = ElementTree.fromstring(variants_plot([row]))
    (point,) = plot.iter("{http://www.w3.org/2000/svg}circle")
    (label,) = [each for each in plot.iter("{http://www.w3.org/2000/svg}text") if each.text == "lora"]

    assert float(label.get("y", "nan")) == float(point.get("cy", "nan")) + 4
