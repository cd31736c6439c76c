"""What tests of several backends share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engram_bench.backends.machine import capabilities, remarks


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every ability may be tried and none was yet; nothing that the test finds or tells is remembered afterwards."""
    monkeypatch.delenv(capabilities.SWITCH, raising=False)
    capabilities.forget()
    remarks.forget()
    yield
    capabilities.forget()
    remarks.forget()


@pytest.fixture
def nothing_special(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any optional ability."""
    monkeypatch.setenv(capabilities.SWITCH, "none")
