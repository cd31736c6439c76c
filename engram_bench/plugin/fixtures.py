"""Fixtures: `judged` for the shipped suite; `pattern`, `baseline`, `candidate`, `adapter`, `backend` for tests of users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest

from engram_bench.errors import EngramBenchError, UnsupportedError
from engram_bench.plugin.ci import add_properties
from engram_bench.plugin.keys import SESSION
from engram_bench.plugin.ledger import GUARDS, ROWS

if TYPE_CHECKING:
    from engram_bench.adapters.store import Adapter
    from engram_bench.plugin.judged import Guard, Judged, Reformed
    from engram_bench.plugin.session import BenchSession
    from engram_bench.records import Completion, DeviceInfo, Pattern, Prompt, Side
    from engram_bench.session.plan import Task, TaskGroup

T = TypeVar("T")


@dataclass(frozen=True)
class AskableSide:
    """One side of the comparison that a test can ask anything: ``candidate("Port of SSH?") == "22"``."""

    side: Side
    session: BenchSession

    def __call__(self, prompt: str | Pattern, *, max_tokens: int | None = None) -> str:
        """The answer's text without surrounding space."""
        return self.complete(prompt, max_tokens=max_tokens).text.strip()

    def complete(self, prompt: str | Pattern, *, max_tokens: int | None = None) -> Completion:
        """The greedy completion of a text, or of a pattern's prompt as written, with counts and stop reason.

        *max_tokens* None takes the pattern's limit, else the session's.
        """
        from engram_bench.records import Pattern, Prompt

        if isinstance(prompt, Pattern):
            return self.complete_prompt(Prompt(prompt.input, prompt.system), max_tokens or prompt.max_tokens)
        return self.complete_prompt(Prompt(prompt), max_tokens)

    def complete_prompt(self, prompt: Prompt, max_tokens: int | None) -> Completion:
        """The greedy completion of a prompt with its system turn."""
        return _or_fail(lambda: self.session.complete(prompt, self.side, max_tokens))


@pytest.fixture
def judged(request: pytest.FixtureRequest, engram_task: Task | TaskGroup) -> Judged:
    """The tasks of an item of one of the suite's tests with both sides' scored answers."""
    from engram_bench.plugin.judged import Answered, Judged
    from engram_bench.session.plan import Task

    session = request.config.stash[SESSION]
    test = request.function.__name__.removeprefix("test_")
    tasks = engram_task.tasks
    request.node.user_properties += [("engram_case", task.case.id) for task in tasks]
    answered = [Answered(task, _or_fail(partial(session.rows, task, test))) for task in tasks]
    request.node.stash[ROWS] = [row for each in answered for rows in each.rows.values() for row in rows]
    if isinstance(engram_task, Task):
        rows = answered[0].rows
        add_properties(request.node, rows["baseline"][0] if "baseline" in rows else None, rows["candidate"][0])
    return Judged(engram_task.name, answered, gate_only=session.settings.gate_only)


@pytest.fixture
def guard(request: pytest.FixtureRequest, engram_task: Task) -> Guard:
    """The sanity guard of this item, applied; skipped where there is no adapter, or the backend cannot tell."""
    from engram_bench.plugin.judged import Guard

    session = request.config.stash[SESSION]
    if _or_fail(lambda: session.bench.tuning.adapter) is None:
        pytest.skip("no adapter to guard: --engram-adapter=none")
    result = _or_fail(lambda: session.guard_result(engram_task))
    request.node.stash[GUARDS] = [result]
    if result.outcome == "not_told":
        pytest.skip(result.reason)
    return Guard(result)


@pytest.fixture
def reformed(request: pytest.FixtureRequest, engram_task: Task) -> Reformed:
    """The prompts of a file, answered by the attached adapter and by the adapter in another form."""
    from engram_bench.plugin.judged import Reformed

    session = request.config.stash[SESSION]
    if not session.bench.tuning.has_forms:
        pytest.skip("no adapter here that could have other forms: the bare model or a server is asked")
    other = _or_fail(lambda: session.rows_as(engram_task.name, engram_task, "parity"))
    return Reformed(engram_task.name, _or_fail(lambda: session.rows(engram_task, "parity"))["candidate"], other)


@pytest.fixture
def pattern() -> Pattern:
    """Each pattern of the configured folders in turn."""
    pytest.fail("fixture 'pattern': no patterns found, expected pattern files under --engram-patterns", pytrace=False)


@pytest.fixture(scope="session")
def baseline(request: pytest.FixtureRequest) -> AskableSide:
    """The bare model, as something to ask."""
    return AskableSide("baseline", request.config.stash[SESSION])


@pytest.fixture(scope="session")
def candidate(request: pytest.FixtureRequest) -> AskableSide:
    """The tuned model, as something to ask; the bare model with ``--engram-adapter=none``."""
    return AskableSide("candidate", request.config.stash[SESSION])


@pytest.fixture(scope="session")
def adapter(request: pytest.FixtureRequest) -> Adapter | None:
    """The adapter under test, loaded or trained; None with ``--engram-adapter=none``."""
    return _or_fail(lambda: request.config.stash[SESSION].bench.tuning.adapter)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> DeviceInfo:
    """Where answers come from: backend, device, dtype, library versions."""
    return _or_fail(lambda: request.config.stash[SESSION].bench.engine.device)


def _or_fail(work: Callable[[], T]) -> T:
    """What *work* gives; an error of ours becomes a failure without a traceback through the plugin."""
    try:
        return work()
    except UnsupportedError:
        raise
    except EngramBenchError as error:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)
