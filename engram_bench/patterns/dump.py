"""The text of a pattern file, written from a pattern set; ``load`` reads the same set back, except for line numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import yaml

from engram_bench.records import Pattern, PatternSet, SpeedPlan


def yaml_text(pattern_set: PatternSet) -> str:
    """The set as a YAML file; a pattern has its id and every value that differs from the format's default."""
    return yaml.safe_dump(_values(pattern_set), sort_keys=False, allow_unicode=True, width=120)


def jsonl_text(pattern_set: PatternSet) -> str:
    """The set as a JSONL file: a header line, then a line per pattern."""
    header = _values(pattern_set)
    rows = [header, *header.pop("patterns", [])]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _values(pattern_set: PatternSet) -> dict[str, Any]:
    values: dict[str, Any] = {key: getattr(pattern_set, key) for key in ("name", "description", "version", "kind")}
    if pattern_set.speed:
        return values | dict(_changed(pattern_set.speed)) | {"prompts": list(pattern_set.speed.prompts)}
    return values | {"patterns": [dict(_changed(pattern)) for pattern in pattern_set.patterns]}


def _changed(record: Pattern | SpeedPlan) -> Iterator[tuple[str, Any]]:
    """The fields of a record that differ from their defaults, as a file writes them."""
    for field in fields(record):
        value = getattr(record, field.name)
        if value != field.default and field.name != "source":
            yield field.name, list(value) if isinstance(value, tuple) else value
