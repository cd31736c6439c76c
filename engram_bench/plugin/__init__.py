"""The pytest plugin: hooks here, what they do in the modules beside.

``collection`` pattern files as test modules · ``session`` the plan and its answers, one per process · ``judged`` a case's
rows and its assertion · ``timed`` a side of a speed test and its rounds · ``fixtures`` for users' own tests · ``ledger`` what
all processes found → comparison, reports, exit status · ``progress`` what a person sees meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engram_bench.errors import EngramBenchError, UsageError
from engram_bench.options import OPTIONS, Settings, read_settings

if TYPE_CHECKING:
    from engram_bench.plugin.session import BenchSession

SESSION: pytest.StashKey[BenchSession] = pytest.StashKey()

# timed first: fixtures imports it, and what is imported before its turn cannot be rewritten for better assertions
pytest_plugins = ["engram_bench.plugin.timed", "engram_bench.plugin.fixtures"]

MARKERS = (
    "accuracy: the candidate gives the answer to a pattern's prompt as written",
    "generalization: the same for wordings that were never trained on",
    "consistency: the same answer under every wording and in sampled repeats",
    "retention: what the baseline knew the candidate still knows",
    "sanity: cheap guards on the adapter and on generation",
    "parity: the same answers from the adapter attached, fused and exported; collected where -m parity asks for it",
    "speed: timed through pytest-benchmark",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini keys."""
    group = parser.getgroup("engram-bench", "test-first benchmarks for tuned language models")
    for option in OPTIONS:
        option.declare(group.addoption)
        kind = {"store_true": "bool", "append": "linelist", "store": "string"}[option.action]
        parser.addini(option.dest, option.full_help, type=kind, default=None)  # type: ignore[arg-type]


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Read ``--backend`` as ``--engram-backend`` unless a conftest or another plugin owns it."""
    yield
    if not any(map(_is_backend, args)):
        return  # nothing to rename, so no second parse at every pytest's start
    _, unknown = parser.parse_known_and_unknown_args(list(args))
    if any(map(_is_backend, unknown)):
        args[:] = [f"--engram-{argument[2:]}" if _is_backend(argument) else argument for argument in args]


def _is_backend(argument: str) -> bool:
    return argument.partition("=")[0] == "--backend"


def pytest_configure(config: pytest.Config) -> None:
    """Register markers, read settings, prepare this process's session and, outside xdist workers, the ledger."""
    from engram_bench.plugin.ledger import RowCarrier, SessionLedger
    from engram_bench.plugin.session import BenchSession

    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    settings = _settings(config)
    if not hasattr(config.option, "engram_started"):
        config.option.engram_started = time.time()  # xdist hands options to its workers: one start for all
    session = config.stash[SESSION] = BenchSession(config, settings, config.option.engram_started)
    config.pluginmanager.register(RowCarrier(session.notes), "engram_bench.carrier")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SessionLedger(config, settings), "engram_bench.ledger")
        _collect_named_patterns(config, settings.patterns)


def _settings(config: pytest.Config) -> Settings:
    ini = {option.dest: config.getini(option.dest) for option in OPTIONS}
    try:
        settings = read_settings(vars(config.option), ini, root=config.rootpath, cwd=config.invocation_params.dir)
        _check(settings)
    except EngramBenchError as error:
        raise pytest.UsageError(str(error)) from error
    return settings


def _check(settings: Settings) -> None:
    """Refuse now what would fail after a training."""
    if settings.backend != "auto":
        from dataclasses import asdict

        from engram_bench.backends import is_evaluation_only, unavailable_reason

        if is_evaluation_only(settings.backend) and (
            reason := unavailable_reason(settings.backend, **asdict(settings))
        ):
            raise UsageError(reason)
    if settings.gate:
        from engram_bench.gate import session_gates

        session_gates(settings.gate)
    if settings.compare not in ("", "latest"):  # without an earlier run, the latest one is just not there yet
        from engram_bench.run_store import find_run

        find_run(settings.report_dir, settings.compare)


def _collect_named_patterns(config: pytest.Config, patterns: tuple[Path, ...]) -> None:
    """Collect what ``--engram-patterns`` names, when no path was given as an argument."""
    if config.getoption("engram_patterns") and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(path) for path in patterns]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give models and stores back."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Backend and model, where there is something to ask them."""
    return config.stash[SESSION].header()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take pattern files for test modules."""
    if file_path.suffix not in (".yaml", ".yml", ".jsonl"):
        return None
    if not parent.config.stash[SESSION].is_pattern_file(file_path, named=parent.session.isinitpath(file_path)):
        return None
    from engram_bench.plugin.collection import PatternModule

    module: PatternModule = PatternModule.from_parent(parent, path=file_path)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the suites over a file's tasks and sides, and users' tests that take ``pattern`` over all patterns."""
    if not {"engram_task", "engram_speed_case", "pattern"}.isdisjoint(metafunc.fixturenames):
        from engram_bench.plugin.collection import parametrize

        parametrize(metafunc, metafunc.config.stash[SESSION])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the sanity guards first: what follows means nothing where they do not hold."""
    items.sort(key=lambda item: not {"guard", "engram_task"} <= set(getattr(item, "fixturenames", ())))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember what was selected: all of it is answered at once when the first test needs an answer."""
    bench = session.config.stash[SESSION]
    bench.items = session.items
    try:
        bench.leak_lines  # noqa: B018  # before anything is asked
    except EngramBenchError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say that no held-out wording that was selected is trained on, and which are nearly."""
    return config.stash[SESSION].leak_lines
