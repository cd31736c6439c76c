"""Tiny projects for plugin tests: pattern files, what the bare model knows, and a real pytest run inside pytest."""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import httpcore  # noqa: F401
import hypothesis
import numpy  # noqa: F401  # a pytest run inside pytest forgets what it imported; extension modules do not survive that
import pytest
import safetensors.numpy  # noqa: F401
import scipy.special  # noqa: F401
import tokenizers  # noqa: F401
import yaml  # noqa: F401

import engram_bench.backends.fake.generator
import engram_bench.plugin
import engram_bench.speed.timer
from tests.warm_workers import warm_python

for profile, examples in {"suite": 30, "thorough": 300}.items():  # `make test-slow` asks for the thorough one
    hypothesis.settings.register_profile(profile, deadline=None, max_examples=examples)  # a busy machine is no mistake
hypothesis.settings.load_profile("suite")

TWO_FACTS = """\
name: facts
patterns:
  - id: http-404
    input: HTTP status code for 'Not Found'?
    output: "404"
    category: http
    held_out: ["What code says a page is missing?", "Which status do I get for a missing page?"]
  - id: port-ssh
    input: Port of SSH?
    output: "22"
    category: ports
"""


UNWATCHED = ("-p", "no:unraisableexception", "-p", "no:threadexception")
"""A session inside a session collects no garbage at its end, ten times over the whole heap: the outer one does."""


@dataclass
class BenchProject:
    """A project in a temporary folder, tested on the fake backend."""

    pytester: pytest.Pytester
    python_of_workers: Callable[[], Path]
    """Gives the program that pytest-xdist starts as a worker."""

    @property
    def path(self) -> Path:
        return self.pytester.path

    def patterns(self, text: str, name: str = "facts.yaml") -> Path:
        """Write a pattern file."""
        path = self.path / "patterns" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def model_knows(self, **answers: object) -> None:
        """Let the bare model answer these prompts; see the fake backend for the knobs."""
        self.knows(answers)

    def knows(self, answers: dict[str, object]) -> None:
        """As :meth:`model_knows`, for prompts that are no identifiers."""
        (self.path / "knows.json").write_text(json.dumps(answers), "utf-8")

    def run(self, *args: str, autoload: bool = False) -> pytest.RunResult:
        """Run pytest on the project in this process; under xdist the workers are processes of their own.

        Finding and importing every installed plugin is a large part of a small session: it is done with *autoload* only.
        Plugins that are not installed are left out; without pytest-xdist a test that asks for workers is skipped.
        """
        if autoload:
            return self.pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:benchmark", *args)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            if "-n" in args:
                return self._run_with_workers(patch, args)
            # By its name, pytest would look for it through the metadata of every installed package.
            return self.pytester.runpytest_inprocess(*UNWATCHED, *args, plugins=[engram_bench.plugin])

    def _run_with_workers(self, patch: pytest.MonkeyPatch, args: Sequence[str]) -> pytest.RunResult:
        if find_spec("xdist") is None:
            pytest.skip("needs pytest-xdist: pip install 'engram-bench[xdist]'")
        plugins = ("xdist.plugin", "pytest_benchmark.plugin", "engram_bench.plugin")
        patch.setenv("PYTEST_PLUGINS", ",".join(name for name in plugins if find_spec(name.split(".")[0])))
        patch.setattr(sys, "executable", str(self.python_of_workers()))
        for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
            patch.delenv(name)  # this process may be a worker; the controller of the project's workers is none
        return self.pytester.runpytest_inprocess(*UNWATCHED, *args)

    def report(self) -> dict[str, object]:
        """The saved ``latest.json``."""
        report: dict[str, object] = json.loads((self.path / "reports" / "latest.json").read_text("utf-8"))
        return report


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of every later search for garbage."""
    gc.collect()
    gc.freeze()


wait_for_disk = os.fsync


@pytest.fixture(scope="session", autouse=True)
def files_need_not_survive_a_power_cut() -> Iterator[None]:
    """The tests of this process write thousands of files, and each would wait for the disk twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


LIBRARIES = ("torch", "mlx", "cuda")  # folders of engram_bench.backends that import a library of models


@pytest.fixture(scope="session")
def imported_once() -> None:
    """Our modules: a pytest run inside pytest forgets what it imported, and the next one would run each module again."""
    import_modules_of("engram_bench")


def import_modules_of(package: str) -> None:
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if not (found.ispkg and found.name.endswith(tuple(f".backends.{name}" for name in LIBRARIES))):
            import_modules_of(found.name) if found.ispkg else importlib.import_module(found.name)


@pytest.fixture(scope="session")
def python_of_workers() -> Iterator[Path]:
    """Program with which pytest-xdist starts the workers of a project."""
    with TemporaryDirectory() as folder, warm_python(Path(folder)) as python:
        yield python


@pytest.fixture
def project(
    imported_once: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> BenchProject:
    """A project with two facts, neither known to the bare model."""
    monkeypatch.setenv("ENGRAM_BENCH_CACHE", str(pytester.path / "cache"))
    monkeypatch.setenv("ENGRAM_FAKE_BASELINE", str(pytester.path / "knows.json"))
    pytester.makeini("[pytest]\nengram_backend = fake\nengram_steps = 3\n")
    made = BenchProject(pytester, lambda: request.getfixturevalue("python_of_workers"))
    made.patterns(TWO_FACTS)
    made.knows({})
    return made


@pytest.fixture
def token_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timed rounds see a clock that only the fake backend's tokens move, so that nothing depends on a busy machine."""
    ticks = itertools.count(step=1e-9)  # loading takes a nanosecond
    slept = [0.0]
    monkeypatch.setattr(engram_bench.speed.timer, "now", lambda: next(ticks) + sum(slept))
    monkeypatch.setattr(engram_bench.backends.fake.generator, "sleep", slept.append)


@pytest.fixture
def accuracy_only(project: BenchProject) -> None:
    """The project asks for the main job unless a test says otherwise with ``-m``."""
    project.pytester.makeini("[pytest]\nengram_backend = fake\nengram_steps = 3\naddopts = -m accuracy\n")


@pytest.fixture(params=[(), ("-n", "2")], ids=["alone", "xdist"])
def workers(request: pytest.FixtureRequest) -> Iterable[str]:
    """Arguments for one process, and for two xdist workers."""
    arguments: Iterable[str] = request.param
    return arguments
