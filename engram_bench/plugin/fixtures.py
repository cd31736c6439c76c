"""Fixtures for tests of users: ``pattern``, ``baseline``, ``candidate``, ``adapter`` and ``backend``."""

from __future__ import annotations

from functools import partial
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
def engram_candidate(request: pytest.FixtureRequest) -> str:
    """Name of the candidate that a test is about; empty stands for the first one. Tests of candidates run once for each."""
    return str(getattr(request, "param", ""))


@pytest.fixture(scope="session")
def baseline(request: pytest.FixtureRequest, engram_candidate: str) -> AskableSide:
    """The bare model that the candidate is compared with; call it with a text or a pattern."""
    side: AskableSide = part("side")("baseline", partial(session_of(request.config).of, engram_candidate))
    return side


@pytest.fixture(scope="session")
def candidate(request: pytest.FixtureRequest, engram_candidate: str) -> AskableSide:
    """The tuned model; call it with a text or a pattern. The bare model with ``--engram-adapter=none``."""
    session = session_of(request.config)
    session.files.train_configured()
    side: AskableSide = part("side")("candidate", partial(session.of, engram_candidate))
    return side


@pytest.fixture(scope="session")
def adapter(request: pytest.FixtureRequest, engram_candidate: str) -> Adapter | None:
    """The adapter under test, loaded or trained; None with ``--engram-adapter=none``."""
    session = session_of(request.config)
    session.files.train_configured()
    return or_fail(lambda: session.of(engram_candidate).bench.tuning.adapter)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest, engram_candidate: str) -> DeviceInfo:
    """Name, device, dtype and library versions of the backend that answers."""
    return or_fail(lambda: session_of(request.config).of(engram_candidate).bench.engine.device)
