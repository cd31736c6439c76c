"""Which backends there are, and why one cannot run here."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint

import pytest

from engram_bench import backends
from engram_bench.backends import BackendSpec
from engram_bench.errors import BackendUnavailable, UsageError


def test_missing_library_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BackendSpec("nowhere:Backend", "nothing", requires=("no_such_module",), extra="cpu")
    monkeypatch.setitem(backends.BACKENDS, "cpu", spec)

    assert backends.unavailable_reason("cpu") == "backend 'cpu' needs no_such_module: pip install 'engram-bench[cpu]'"
    with pytest.raises(BackendUnavailable, match=re.escape("pip install 'engram-bench[cpu]'")):
        backends.create("cpu")


def test_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"got 'tpu', expected one of auto, cpu, .*fake"):
        backends.choose_backend("tpu")


@pytest.mark.parametrize(
    ("apple", "nvidia", "available", "chosen"),
    [
        (True, False, {"mlx"}, "mlx"),
        (True, False, set(), "cpu"),
        (False, True, {"cuda"}, "cuda"),
        (False, True, set(), "cpu"),
        (False, False, {"mlx", "cuda"}, "cpu"),
    ],
    ids=["apple", "apple-without-mlx", "nvidia", "nvidia-without-unsloth", "neither"],
)
def test_auto_takes_the_best_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, apple: bool, nvidia: bool, available: set[str], chosen: str
) -> None:
    monkeypatch.setattr(backends, "_is_apple_silicon", lambda: apple)
    monkeypatch.setattr(backends, "_has_nvidia_gpu", lambda: nvidia)
    for name in ("mlx", "cuda"):
        requires = () if name in available else ("no_such_module",)
        monkeypatch.setitem(backends.BACKENDS, name, BackendSpec("x:Y", name, requires=requires))

    assert backends.choose_backend("auto")[0] == chosen


def test_installed_package_can_bring_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("theirs", "engram_bench.backends.fake:FakeBackend", "engram_bench.backends")
    monkeypatch.setattr(backends, "entry_points", lambda group: [entry])

    assert backends.choose_backend("theirs") == ("theirs", "as asked")
    assert backends.create("theirs").name == "fake"
