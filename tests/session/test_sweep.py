"""The sweep over checkpoints: its rule, its curve, and a whole session."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pytest

from engram_bench.records import Estimate, SweepPoint
from engram_bench.reporting.sweep_report import sweep_plot
from engram_bench.scoring.sweep import best
from tests.conftest import BenchProject

FACTS = "name: facts\npatterns:\n" + "".join(
    f"  - {{id: f{n}, input: Fact {n}?, output: answer {n}, category: facts}}\n" for n in range(8)
)


def point(step: int, *rates: float | None) -> SweepPoint:
    return SweepPoint(f"checkpoints/step-{step:06d}", step, *(None if r is None else Estimate(r, 10) for r in rates))


@pytest.mark.parametrize(
    ("points", "step"),
    [
        ([point(10, 0.5, 0.5, 1.0), point(20, 1.0, 0.9, 0.5)], 20),
        ([point(10, 0.9, 0.7, 1.0), point(20, 1.0, 0.8, 0.5)], 10),
        ([point(10, 1.0, 0.5, 0.5), point(20, 0.5, 1.0, 0.5)], 10),
        ([point(10, 0.5, None, None), point(20, 1.0, None, None)], 20),
    ],
    ids=["more-in-all", "forgets-too-much", "tie-takes-the-earlier", "recall-alone"],
)
def test_best_checkpoint_has_the_highest_mean(points: Sequence[SweepPoint], step: int) -> None:
    found = best(points)

    assert found is not None
    assert found.step == step


def test_curve_is_whole_xml_with_a_line_per_rate() -> None:
    root = ElementTree.fromstring(sweep_plot([point(10, 0.1, 0.2, 0.9), point(20, 1.0, 0.8, 0.5)]))

    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 3


def test_no_curve_of_a_single_point() -> None:
    assert sweep_plot([point(10, 1.0, 1.0, 1.0)]) == ""


def test_session_evaluates_every_checkpoint_and_names_the_best(project: BenchProject, workers: Sequence[str]) -> None:
    project.patterns(FACTS)

    result = project.run(
        "-m",
        "accuracy",
        "--engram-sweep",
        "--engram-checkpoints=4",
        "--engram-steps=8",
        "--engram-gate=accuracy >= 0%",
        *workers,
    )

    assert result.ret == 0
    points: Any = project.report()["sweep"]
    assert [each["step"] for each in points] == [2, 4, 6, 8]
    recall = [each["recall"]["passed"] for each in points]
    assert recall == sorted(recall)
    assert recall[-1] == 8
    result.stdout.fnmatch_lines(["checkpoints: recall*", "*best checkpoint: step 8 (*"])
    assert (project.path / "reports" / "plots" / "sweep.svg").exists()


def test_best_checkpoint_can_be_taken_as_the_adapter(project: BenchProject) -> None:
    project.patterns(FACTS)
    project.run("-m", "accuracy", "--engram-sweep", "--engram-steps=6")
    (adapter,) = (project.path / "adapters").glob("lora-*")
    checkpoint = sorted((adapter / "checkpoints").iterdir())[0]

    result = project.run(
        "-m", "accuracy", f"--engram-adapter={checkpoint}", "--engram-gate-only", "--engram-gate=accuracy >= 0%"
    )

    assert re.search(r"accuracy +8 ", result.stdout.str()) or result.ret == 0


def test_adapter_without_checkpoints_cannot_be_swept(project: BenchProject) -> None:
    result = project.run("-m", "accuracy", "--engram-sweep", "--engram-adapter=none")

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*--engram-adapter=none has no checkpoints, expected an adapter*"])
