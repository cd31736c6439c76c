"""Fixtures for tests of users: ``pattern``, ``baseline``, ``candidate``, ``adapter`` and ``backend``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engram_bench.plugin.handle import or_fail, session_of
from engram_bench.plugin.outlet import fail
from engram_bench.plugin.parts import part

if TYPE_CHECKING:
    from engram_bench.adapters.store import Adapter
    from engram_bench.plugin.asking import AskableSide
    from engram_bench.records import DeviceInfo, Pattern


@pytest.fixture
def pattern() -> Pattern:
    """Each pattern of the configured folders in turn."""
    fail("fixture 'pattern': no patterns found, expected pattern files under --engram-patterns")


@pytest.fixture(scope="session")
def baseline(request: pytest.FixtureRequest) -> AskableSide:
    """The bare model; call it with a text or a pattern."""
    side: AskableSide = part("side")("baseline", session_of(request.config))
    return side


@pytest.fixture(scope="session")
def candidate(request: pytest.FixtureRequest) -> AskableSide:
    """The tuned model; call it with a text or a pattern. The bare model with ``--engram-adapter=none``."""
    session = session_of(request.config)
    session.files.train_configured()
    side: AskableSide = part("side")("candidate", session)
    return side


@pytest.fixture(scope="session")
def adapter(request: pytest.FixtureRequest) -> Adapter | None:
    """The adapter under test, loaded or trained; None with ``--engram-adapter=none``."""
    session = session_of(request.config)
    session.files.train_configured()
    return or_fail(lambda: session.bench.tuning.adapter)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> DeviceInfo:
    """Name, device, dtype and library versions of the backend that answers."""
    return or_fail(lambda: session_of(request.config).bench.engine.device)
