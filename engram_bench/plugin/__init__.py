"""The pytest plugin: hooks here, and what they call in the modules beside, imported when first needed (``parts``).

``collection`` takes pattern files for test modules · ``session`` holds the plan and its answers, one per process · ``judged``
asserts a case · ``timed`` runs a side of a speed test · ``fixtures`` serves tests of users · ``carrier`` puts results on reports
· ``ledger`` gathers them from all processes · ``summary`` turns them into reports, exit status and lines on the terminal.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest

from engram_bench.backends.registry import choose_backend, is_evaluation_only, unavailable_reason
from engram_bench.door import without_credentials
from engram_bench.errors import EngramBenchError, UsageError
from engram_bench.plugin.handle import HANDLE, SessionHandle
from engram_bench.plugin.interruption import Interruption
from engram_bench.plugin.ledger import SessionLedger
from engram_bench.plugin.outlet import header, usage_error
from engram_bench.plugin.parts import part
from engram_bench.plugin.refusal import SUFFIXES, refuse, takes_a_side
from engram_bench.session.options import OPTIONS
from engram_bench.session.reading import check_keys, read_settings
from engram_bench.session.settings import Settings

pytest_plugins = ["engram_bench.plugin.fixtures"]

MARKERS = (
    "accuracy: the candidate correctly answers the prompt of a pattern as written",
    "generalization: the candidate correctly answers a wording that was never trained on",
    "consistency: the candidate correctly answers enough wordings of a pattern",
    "retention: the candidate still correctly answers a control that the baseline answered correctly",
    "sanity: a guard on the adapter or on generation holds",
    "parity: the attached, the fused and the exported adapter give the same answers; only with -m parity",
    "speed: pytest-benchmark times the models",
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
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    settings = _settings(config)
    if not hasattr(config.option, "engram_session"):
        config.option.engram_session = uuid4().hex  # xdist hands options to its workers: one name for all
    config.stash[HANDLE] = SessionHandle(config, settings, config.option.engram_session)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SessionLedger(config, settings), "engram_bench.ledger")
        config.pluginmanager.register(Interruption(config), "engram_bench.interruption")
        _collect_named_patterns(config, settings.patterns)


def _settings(config: pytest.Config) -> Settings:
    ini = {option.dest: config.getini(option.dest) for option in OPTIONS}
    try:
        check_keys(
            name for name in _configured(config) if name.startswith("engram_") and not _is_declared(config, name)
        )
        settings = read_settings(vars(config.option), ini, root=config.rootpath, cwd=config.invocation_params.dir)
        _check(settings)
    except EngramBenchError as error:
        raise usage_error(error) from error
    return settings


def _configured(config: pytest.Config) -> tuple[str, ...]:
    """The keys of pytest's configuration. pytest has no other way to them: ``Config.inicfg`` is deprecated since 9.1."""
    values = vars(config)
    return (*values.get("inicfg", ()), *values.get("_inicfg", ()))


def _is_declared(config: pytest.Config, key: str) -> bool:
    """Whether this plugin or another one has declared the key."""
    try:
        config.getini(key)
    except (KeyError, ValueError):
        return False
    return True


def _check(settings: Settings) -> None:
    """Refuse now what would fail after a training."""
    for each in settings.chosen.values():
        if each.backend != "auto" and is_evaluation_only(each.backend):
            reason = unavailable_reason(each.backend, **each.by_field)
            if reason:
                raise UsageError(reason)
    if settings.gate:
        part("gates")(settings.gate, candidates=settings.names)
    if settings.compare not in ("", "latest"):  # without an earlier run, the latest one is just not there yet
        part("find_run")(settings.report_dir, settings.compare)


def _collect_named_patterns(config: pytest.Config, patterns: tuple[Path, ...]) -> None:
    """Collect the paths that ``--engram-patterns`` names, when no path was given as an argument."""
    if config.getoption("engram_patterns") and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(path) for path in patterns]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close models and stores."""
    handle = config.stash.get(HANDLE, None)
    if handle is not None:
        handle.close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Backend and model; nothing in a project without pattern files."""
    settings = config.stash[HANDLE].settings
    if not any(path.exists() for path in settings.patterns):
        return []
    backend, reason = choose_backend(settings.backend)
    asked = f"model {settings.model}, adapter {settings.adapter}"
    if settings.candidates:
        asked = f"candidate{'s' * (len(settings.chosen) > 1)} {', '.join(settings.chosen)}"
    elif is_evaluation_only(backend):
        asked = (
            f"{without_credentials(settings.server_url)}: {settings.candidate_model} against {settings.baseline_model}"
        )
    without = f", without {', '.join(settings.plain)}" if settings.plain else ""
    return header([f"engram-bench: backend {backend} ({reason}), {asked}{without}"])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a link below a configured folder that leads back to a folder around it: pytest would follow it for ever."""
    if not _is_below(collection_path, config.stash[HANDLE].settings.patterns) or not collection_path.is_symlink():
        return None
    real = collection_path.resolve()
    return True if any(parent.resolve() == real for parent in collection_path.parents) else None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take pattern files for test modules: those named on the command line, and those that a command would find."""
    if file_path.suffix not in SUFFIXES:
        return None
    handle = parent.config.stash[HANDLE]
    if not parent.session.isinitpath(file_path):
        if not _is_below(file_path, handle.settings.patterns):
            return None
        if handle.session().files.configured.get(file_path.resolve()) != file_path:
            return None  # the same file was found under another path
    module: pytest.Collector = part("collect")(file_path, parent)
    return module


def _is_below(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the suites over a file's tasks, sides and candidates, and users' tests over patterns and candidates."""
    if not {"engram_task", "engram_speed_case", "engram_candidate", "pattern"}.isdisjoint(metafunc.fixturenames):
        part("parametrize")(metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the sanity guards first: where a guard does not hold, the results that follow mean nothing.

    pytest then puts the tests of one candidate together, in this order.
    """
    items.sort(key=lambda item: not {"guard", "engram_task"} <= set(getattr(item, "fixturenames", ())))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the selected items, and stop the session where an error is sure to come: one error before any model is loaded."""
    handle = session.config.stash[HANDLE]
    if handle.opened is None and not takes_a_side(session.items):
        return  # no item of the suite, and no test of a user that asks a model
    try:
        handle.session().select(session.items)
        options = session.config.option
        if not (options.collectonly or options.continue_on_collection_errors or session.testsfailed):
            handle.session().check_early()
    except EngramBenchError as error:
        refuse(session, error)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say that no held-out wording that was selected is trained on, and which are nearly."""
    opened = config.stash[HANDLE].opened
    return header(opened.leak_lines) if opened is not None else []
