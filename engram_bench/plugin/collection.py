"""Pattern files as test modules, so that fixtures, `-k`, `-m`, node ids and `--benchmark-only` work as for any test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from importlib import import_module
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engram_bench.door import printable
from engram_bench.errors import EngramBenchError, UsageError
from engram_bench.plugin.handle import HANDLE, session_of
from engram_bench.plugin.items import CANDIDATE, about
from engram_bench.plugin.outlet import collect_error
from engram_bench.records import PatternSet
from engram_bench.session.plan import SUITE, Task, TaskGroup
from engram_bench.speed.cases import SpeedCase, speed_cases


def collect(path: Path, parent: pytest.Collector) -> pytest.Collector:
    """The collector of a pattern file; the hooks and fixtures of the suite come with the first one."""
    plugins = parent.config.pluginmanager
    for name in ("carrier", "judged", "timed"):
        module = import_module(f"engram_bench.plugin.{name}")
        if not plugins.is_registered(module):
            plugins.register(module)
    shown = printable(path.name)
    named: dict[str, Any] = (
        {} if shown == path.name else {"nodeid": "/".join(filter(None, (printable(parent.nodeid), shown)))}
    )
    found: PatternModule = PatternModule.from_parent(parent, path=path, **named)
    return found


class PatternModule(pytest.Module):
    """A pattern file, seen as a module that holds the suite's test functions."""

    def _getobj(self) -> ModuleType:
        if self.pattern_set.kind != "speed":
            return import_module("engram_bench.plugin.suite")
        by_either_name = ("benchmark", "pytest_benchmark.plugin")  # the module's own where autoload is disabled
        has_benchmark = any(map(self.config.pluginmanager.hasplugin, by_either_name))
        return import_module(f"engram_bench.plugin.{'speed_suite' if has_benchmark else 'speed_suite_untimed'}")

    @cached_property
    def pattern_set(self) -> PatternSet:
        """The file's patterns.

        Raises:
            CollectError: The file has mistakes or contradicts another file; lists all mistakes.
        """
        files = session_of(self.config).files
        try:
            pattern_set = files.load(self.path)
            files.check_across()
            return pattern_set
        except EngramBenchError as error:
            raise collect_error(error) from error

    def items_of(self, function: str) -> Sequence[Task | TaskGroup]:
        """The tasks of one function of the suite, one for each item, within ``--engram-limit``."""
        session = session_of(self.config)
        test = SUITE.get(function.removeprefix("test_"))
        if test is None or (test.is_opt_in and not session.asks_for(test.name)):
            return ()
        if function not in self._items:
            self._items[function] = test.items(self.pattern_set, session.settings)
        return self._items[function]

    @cached_property
    def _items(self) -> dict[str, Sequence[Task | TaskGroup]]:
        return {}

    def speed_cases(self, function: str) -> list[SpeedCase]:
        """The sides that one function of the speed suite times."""
        return speed_cases(self.pattern_set, function.removeprefix("test_"))

    def istestfunction(self, obj: object, name: str) -> bool:
        """Only functions that have items in this file."""
        return name.startswith("test_") and bool(self.items_of(name) or self.speed_cases(name))

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """The suite's functions, each reported at its pattern's line."""
        items = list(super().collect())
        for item in items:
            if isinstance(item, pytest.Function):
                found = about(item)
                line = found.source.line if found is not None else 1
                item.reportinfo = partial(_location, self, line, item.name)  # type: ignore[method-assign]
        return items


def _location(module: PatternModule, line: int, name: str) -> tuple[Path, int, str]:
    return module.path, line - 1, name


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Parametrize a suite function over its file's tasks, and a user's test that takes ``pattern`` over all patterns.

    Where more than one candidate is named, what asks a candidate is parametrized over the candidates to test as well, so that
    a node id ends with the name: ``test_accuracy[port-ssh-careful]``.
    """
    _over_tasks(metafunc)
    settings = metafunc.config.stash[HANDLE].settings
    if settings.has_many and _asks_our_candidate(metafunc):
        metafunc.parametrize(CANDIDATE, list(settings.chosen), indirect=True, scope="session")


def _over_tasks(metafunc: pytest.Metafunc) -> None:
    module = metafunc.definition.getparent(PatternModule)
    if module is not None and "engram_task" in metafunc.fixturenames:
        items = module.items_of(metafunc.function.__name__)
        _check_ids([item.name for item in items], metafunc.config.stash[HANDLE].settings.candidates, module)
        metafunc.parametrize("engram_task", items, ids=[printable(item.name) for item in items])
    elif module is not None and "engram_speed_case" in metafunc.fixturenames:
        timed = module.speed_cases(metafunc.function.__name__)
        if len(timed) > 1:  # the one side of a test is its fixture's default, and its node id stays bare
            metafunc.parametrize("engram_speed_case", timed, ids=[case.id for case in timed])
    elif module is None and _takes_our_pattern(metafunc):
        try:
            patterns = session_of(metafunc.config).files.configured_patterns()
        except EngramBenchError as error:
            raise collect_error(error) from error
        if patterns:
            metafunc.parametrize("pattern", [each for _, each in patterns], ids=[name for name, _ in patterns])


def _check_ids(tasks: Sequence[str], candidates: Iterable[str], module: PatternModule) -> None:
    """Two tests of one id could not be distinguished: pattern ``ssh`` of ``port-slow``, and pattern ``ssh-port`` of ``slow``.

    Raises:
        CollectError: There are two such patterns and candidates; names them.
    """
    known = set(tasks)
    for long, short in permutations(candidates, 2):
        middle = long.removesuffix(f"-{short}")
        for task in tasks if middle != long else ():
            if (other := f"{task}-{middle}") in known:
                msg = f"{module.pattern_set.path}: {task!r} of candidate {long!r} and {other!r} of {short!r} are one test name"
                raise collect_error(UsageError(f"{msg}, expected another name for a candidate"))


def _asks_our_candidate(metafunc: pytest.Metafunc) -> bool:
    """Whether a test is one of the suite, or asks a candidate through a fixture of this plugin."""
    names = metafunc.fixturenames
    if metafunc.definition.getparent(PatternModule) is not None:
        return CANDIDATE in names
    definitions = metafunc.definition._fixtureinfo.name2fixturedefs
    return any(
        name in definitions and definitions[name][-1].func.__module__ == "engram_bench.plugin.fixtures"
        for name in ("candidate", "adapter")
    )


def _takes_our_pattern(metafunc: pytest.Metafunc) -> bool:
    """Whether ``pattern`` is this plugin's fixture: no conftest overrides it and no mark parametrizes it."""
    if "pattern" not in metafunc.fixturenames:
        return False
    marks = metafunc.definition.iter_markers("parametrize")
    if any("pattern" in str(mark.args[:1] or mark.kwargs.get("argnames", "")) for mark in marks):
        return False
    definitions = metafunc.definition._fixtureinfo.name2fixturedefs.get("pattern", ())
    return bool(definitions) and definitions[-1].func.__module__ == "engram_bench.plugin.fixtures"
