"""``engram-bench backends``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell


def test_every_backend_is_listed_with_what_it_misses(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "needs torch: pip install 'engram-bench[cpu]'"
    monkeypatch.setattr("engram_bench.backends.registry.unavailable_reason", lambda name: reason)

    report = shell.json("backends", status=3)

    assert report["backends"]["cpu"]["reason"] == reason
    assert report["backends"]["cpu"]["available"] is False
    assert report["backends"]["cpu"]["install"] == "pip install 'engram-bench[cpu]'"


def test_available_backend_is_status_0(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "engram_bench.backends.registry.unavailable_reason", lambda name: None if name == "cpu" else "absent"
    )

    output = shell("backends")

    assert "--backend auto takes " in output
    assert "pip install 'engram-bench[cpu]'" in output
