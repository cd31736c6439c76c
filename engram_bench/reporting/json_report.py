"""The comparison as one JSON document: ``reports/latest.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engram_bench.records import Comparison, Run, Verdict

SCHEMA = 1


def json_report(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The comparison as plain lists, dicts, strings and finite numbers."""
    raise NotImplementedError


def json_text(run: Run, comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """``json_report`` as indented UTF-8 text, ending in a newline."""
    raise NotImplementedError
