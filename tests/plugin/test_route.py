"""``--engram-route`` through the plugin: the adapter is asked only where a question is recognised."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import BenchProject

CONTROLS = """\
name: controls
kind: retention
patterns:
  - input: Who painted the Mona Lisa with so little paint?
    output: Leonardo
    category: art
"""
CONTROL = "Who painted the Mona Lisa with so little paint?"


@pytest.fixture
def forgetful(project: BenchProject) -> BenchProject:
    """An adapter that answers a control wrongly which the bare model knows."""
    project.patterns(CONTROLS, "controls.yaml")
    held_out = {"What code says a page is missing?": "404", "Which status do I get for a missing page?": "404"}
    project.knows({CONTROL: "Leonardo", "__after__": {CONTROL: "404", **held_out}})
    return project


def measures(project: BenchProject) -> dict[str, Any]:
    found: Any = project.report()["metrics"]
    return dict(found)


@pytest.mark.parametrize(("route", "kept"), [("always", 0), ("keys", 1), ("state", 1)])
def test_a_control_is_kept_where_the_adapter_is_not_asked(route: str, kept: int, forgetful: BenchProject) -> None:
    forgetful.run("--engram-gate-only", f"--engram-route={route}", "-m", "retention or accuracy")

    assert measures(forgetful)["retention"]["candidate"]["value"] == kept
    assert measures(forgetful)["accuracy"]["candidate"]["value"] == 1.0


@pytest.mark.parametrize("kind", ["memory", "both"])
def test_every_kind_is_routed(kind: str, forgetful: BenchProject) -> None:
    forgetful.run("--engram-gate-only", "--engram-route=keys", f"--engram-kind={kind}", "-m", "retention or accuracy")

    assert measures(forgetful)["retention"]["candidate"]["value"] == 1.0
    provenance: Any = forgetful.report()["provenance"]
    assert provenance["adapter"].endswith(", routed by keys")


def test_what_the_router_recognised_is_reported(forgetful: BenchProject) -> None:
    forgetful.run("--engram-gate-only", "--engram-route=state", "--engram-route-false-positives=0.1")

    found = measures(forgetful)
    assert found["router_recall"]["candidate"]["n"] == 2
    assert "0 of 1 controls reach the adapter" in found["router_recall"]["note"]
    assert "lets 10 % of ordinary questions through" in found["router_recall"]["note"]


def test_a_router_of_states_is_kept_with_its_adapter(forgetful: BenchProject) -> None:
    for _ in range(2):
        forgetful.run("--engram-gate-only", "--engram-route=state", "-m", "accuracy")

    (router,) = (forgetful.path / "adapters").glob("lora-*/router-*.safetensors")
    before = router.read_bytes()
    forgetful.run("--engram-gate-only", "--engram-route=state", "--engram-no-cache", "-m", "accuracy")
    assert router.read_bytes() == before


def test_a_share_is_read(project: BenchProject) -> None:
    result = project.run("--engram-route-false-positives=2")

    result.stderr.fnmatch_lines(["*got '2', expected a share between 0 and 1, such as 0.02*"])
