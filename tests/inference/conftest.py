"""Stores of answers that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engram_bench.inference.store import CompletionStore


@pytest.fixture(autouse=True)
def stores_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every store that a test opens: Python 3.13 warns of a database that is collected open."""
    opened: list[CompletionStore] = []
    open_store = CompletionStore.__init__

    def noted(store: CompletionStore, *args: Any, **options: Any) -> None:
        open_store(store, *args, **options)
        opened.append(store)

    monkeypatch.setattr(CompletionStore, "__init__", noted)
    yield
    for store in opened:
        store.close()
