"""The test functions every pattern file gets.

pytest collects them once per pattern file and parametrizes each over that file's tasks, so a node id points at the YAML:
``patterns/facts.yaml::test_accuracy[http-404]``. Which functions a file gets follows from its kind (``plan.SUITE``).
"""

from __future__ import annotations

import pytest

from engram_bench.plugin.judged import Guard, Judged, Reformed


@pytest.mark.sanity
def test_sanity(guard: Guard) -> None:
    """The guard holds: the adapter is whole, has an effect, and is asked as it was trained."""
    guard.assert_holds()


@pytest.mark.accuracy
def test_accuracy(judged: Judged) -> None:
    """The candidate gives the pattern's answer to its prompt as written."""
    judged.assert_passed()


@pytest.mark.generalization
def test_generalization(judged: Judged) -> None:
    """The candidate gives the pattern's answer to a wording it was never trained on."""
    judged.assert_passed()


@pytest.mark.consistency
def test_consistency(judged: Judged) -> None:
    """The candidate is right under enough of the pattern's wordings: its ``min_consistency``."""
    judged.assert_consistent()


@pytest.mark.retention
def test_retention(judged: Judged) -> None:
    """The candidate still answers correctly where the baseline did."""
    judged.assert_kept()


@pytest.mark.parity
def test_parity(reformed: Reformed) -> None:
    """The adapter gives the same answers fused, merged into a model folder, and exported to mlx-lm and back."""
    reformed.assert_same()
