"""Tiny projects for plugin tests: pattern files, what the bare model knows, and a real pytest run inside pytest."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpcore  # noqa: F401
import hypothesis
import numpy  # noqa: F401  # a pytest run inside pytest forgets what it imported; extension modules do not survive that
import pytest
import safetensors.numpy  # noqa: F401
import scipy.special  # noqa: F401
import tokenizers  # noqa: F401
import yaml  # noqa: F401

import engram_bench.backends.fake
import engram_bench.patterns.load
import engram_bench.session.bench
import engram_bench.speed.timer

hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine is no mistake of the code
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


@dataclass
class BenchProject:
    """A project in a temporary folder, tested on the fake backend."""

    pytester: pytest.Pytester

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

    def run(self, *args: str) -> pytest.RunResult:
        """Run pytest on the project: in this process, or in processes of their own under xdist.

        Plugins that are not installed are left out; without pytest-xdist a test that asks for workers is skipped.
        """
        if "-n" in args:
            if find_spec("xdist") is None:
                pytest.skip("needs pytest-xdist: pip install 'engram-bench[xdist]'")
            plugins = ("xdist.plugin", "pytest_benchmark.plugin", "engram_bench.plugin")
            with pytest.MonkeyPatch.context() as patch:  # other plugins are half of what three processes import
                patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
                patch.setenv("PYTEST_PLUGINS", ",".join(name for name in plugins if find_spec(name.split(".")[0])))
                return self.pytester.runpytest_subprocess(*args)
        return self.pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:benchmark", *args)

    def report(self) -> dict[str, object]:
        """The saved ``latest.json``."""
        report: dict[str, object] = json.loads((self.path / "reports" / "latest.json").read_text("utf-8"))
        return report


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> BenchProject:
    """A project with two facts, neither known to the bare model."""
    monkeypatch.setenv("ENGRAM_BENCH_CACHE", str(pytester.path / "cache"))
    monkeypatch.setenv("ENGRAM_FAKE_BASELINE", str(pytester.path / "knows.json"))
    pytester.makeini("[pytest]\nengram_backend = fake\nengram_steps = 3\n")
    made = BenchProject(pytester)
    made.patterns(TWO_FACTS)
    made.knows({})
    return made


@pytest.fixture
def token_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timed rounds see a clock that only the fake backend's tokens move, so that nothing depends on a busy machine."""
    ticks = itertools.count(step=1e-9)  # loading takes a nanosecond
    slept = [0.0]
    monkeypatch.setattr(engram_bench.speed.timer, "now", lambda: next(ticks) + sum(slept))
    monkeypatch.setattr(engram_bench.backends.fake, "sleep", slept.append)


@pytest.fixture
def accuracy_only(project: BenchProject) -> None:
    """The project asks for the main job unless a test says otherwise with ``-m``."""
    project.pytester.makeini("[pytest]\nengram_backend = fake\nengram_steps = 3\naddopts = -m accuracy\n")


@pytest.fixture(params=[(), ("-n", "2")], ids=["alone", "xdist"])
def workers(request: pytest.FixtureRequest) -> Iterable[str]:
    """Arguments for one process, and for two xdist workers."""
    arguments: Iterable[str] = request.param
    return arguments
