"""What a test item is about: its candidate, and the tasks that it judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engram_bench.session.plan import Task, TaskGroup

CANDIDATE = "engram_candidate"
"""Fixture that tests are parametrized with where more than one candidate is named."""


def candidate_name(item: pytest.Item) -> str:
    """Name of the candidate that an item is about; empty where no or one candidate is named."""
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    return str(params.get(CANDIDATE, ""))


def about(item: pytest.Item) -> Task | TaskGroup | None:
    """The task or tasks that a test of the suite is parametrized with; None for any other test."""
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    found: Task | TaskGroup | None = params.get("engram_task")
    return found


def tasks_of(item: pytest.Item) -> tuple[Task, ...]:
    """The tasks that a test of the suite judges; none for any other test."""
    found = about(item)
    return found.tasks if found is not None else ()
