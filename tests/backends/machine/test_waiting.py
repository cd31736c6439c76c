"""How threads wait is chosen once, before a library of matrices is loaded, and never against the user."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from engram_bench.backends import registry
from engram_bench.backends.machine.waiting import SAME_MATTER, wait_asleep
from engram_bench.backends.specs import BACKENDS, BackendSpec


def test_threads_wait_asleep() -> None:
    environment = {"OMP_NUM_THREADS": "3"}

    wait_asleep(environment)

    assert environment == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("name", SAME_MATTER)
def test_a_choice_of_the_user_stands(name: str) -> None:
    environment = {name: "1"}

    wait_asleep(environment)

    assert environment == {name: "1"}


def test_the_choice_is_made_before_the_library_of_a_backend_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    seen: list[str | None] = []

    def imported(target: str) -> Any:
        seen.append(os.environ.get("OMP_WAIT_POLICY"))
        return SimpleNamespace

    monkeypatch.setitem(BACKENDS, "made-up", BackendSpec("made.up:Backend", "made up"))
    monkeypatch.setattr(registry, "_load", imported)

    registry.create("made-up")

    assert seen == ["PASSIVE"]
