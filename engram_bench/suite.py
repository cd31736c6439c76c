"""The test functions every pattern file gets.

pytest collects them once per pattern file and parametrizes each over that file's cases, so a node id points at the YAML:
``patterns/facts.yaml::test_accuracy[http-404]``. Which functions a file gets follows from its kind.
"""

from __future__ import annotations

import pytest

from engram_bench.plugin.judged import Judged


@pytest.mark.accuracy
def test_accuracy(judged: Judged) -> None:
    """The candidate gives the pattern's answer to its prompt as written."""
    judged.assert_passed()
