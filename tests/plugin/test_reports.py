"""What a session leaves under ``reports/``."""

from __future__ import annotations

from tests.conftest import BenchProject


def test_a_session_leaves_a_page_and_its_plots(project: BenchProject) -> None:
    project.run()

    page = (project.path / "reports" / "latest.html").read_text("utf-8")
    assert "facts/http-404" in page
    assert (project.path / "reports" / "plots" / "accuracy.svg").read_text("utf-8").startswith("<?xml")


def test_a_plot_of_an_earlier_run_does_not_stay(project: BenchProject) -> None:
    old = project.path / "reports" / "plots" / "speed.svg"
    old.parent.mkdir(parents=True)
    old.write_text("<svg/>")

    project.run()

    assert not old.exists()
