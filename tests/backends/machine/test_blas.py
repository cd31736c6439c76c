"""Which matrix library mlx gets on Linux."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engram_bench.backends.machine import blas
from engram_bench.backends.machine.capabilities import SWITCH
from engram_bench.backends.machine.devices import mlx_device

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux wheels of mlx need another BLAS")


@pytest.fixture
def libraries(tmp_path: Path, untried: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place libraries are looked for in; none was tried before."""
    monkeypatch.delenv(blas.ENVIRONMENT, raising=False)
    monkeypatch.setattr(blas, "_folders", lambda: [tmp_path])
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setattr(blas, "_is_preloaded", lambda: False)  # an earlier test may have loaded one
    return tmp_path


@linux
@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["libopenblas.so.0", "libmkl_rt.so.3"], ("MKL", "libmkl_rt.so.3")),
        (["libopenblas.so.0"], ("OpenBLAS", "libopenblas.so.0")),
        (["libopenblas64.so.0", "libblis.so.4"], ("BLIS", "libblis.so.4")),
        (["libscipy_openblas64_-32a4b2a6.so"], None),
        ([], None),
    ],
    ids=["mkl-first", "openblas", "64-bit-integers-skipped", "renamed-symbols-skipped", "none"],
)
def test_find_blas_prefers_mkl_and_skips_what_mlx_cannot_call(libraries: Path, files: Any, chosen: Any) -> None:
    for name in files:
        (libraries / name).touch()

    found = blas.find_blas()

    assert (found and (found.name, found.path.name)) == chosen


@linux
def test_environment_names_the_library(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blas.ENVIRONMENT, "/opt/x/libfast.so.2")

    assert blas.find_blas() == blas.Blas("fast", Path("/opt/x/libfast.so.2"))


@linux
def test_environment_can_keep_the_reference(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (libraries / "libmkl_rt.so.3").touch()
    monkeypatch.setenv(blas.ENVIRONMENT, "reference")

    assert blas.find_blas() is None


@linux
def test_the_switch_keeps_the_reference(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (libraries / "libmkl_rt.so.3").touch()
    monkeypatch.setenv(SWITCH, "fused-kernels")

    assert blas.find_blas() is None


def fill(product: Any, values: list[float]) -> None:
    for index, value in enumerate(values):
        product[index] = value


class Libraries:
    """What ``ctypes.CDLL`` gives: libraries that write these values as a product, or have no such function."""

    def __init__(self, values: list[float] | None) -> None:
        self.loaded_for_all: list[str] = []
        self._library = SimpleNamespace()
        if values is not None:
            self._library.cblas_sgemm = lambda *arguments: fill(arguments[-2], values)

    def load(self, path: str, mode: int = 0) -> Any:
        if mode == ctypes.RTLD_GLOBAL:
            self.loaded_for_all.append(Path(path).name)
        return self._library


@linux
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([58.0, 64.0, 139.0, 154.0], ""),
        ([58.0, 64.0, 139.0, 0.0], "(cblas_sgemm gave [58.0, 64.0, 139.0, 0.0], expected [58.0, 64.0, 139.0, 154.0])"),
        (None, "(AttributeError: "),
    ],
    ids=["right", "wrong-values", "without-the-function"],
)
def test_a_library_that_cannot_multiply_never_reaches_mlx(
    libraries: Path, monkeypatch: pytest.MonkeyPatch, values: list[float] | None, reason: str
) -> None:
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    (libraries / "libmkl_rt.so.3").touch()
    machine = Libraries(values)
    monkeypatch.setattr(ctypes, "CDLL", machine.load)

    found, warning = blas.preload_blas.__wrapped__()

    assert machine.loaded_for_all == ([] if reason else ["libmkl_rt.so.3"])
    assert (found is None) is bool(reason)
    assert reason in warning
    assert (blas.FIX in warning) is bool(reason)


@linux
@pytest.mark.parametrize(
    ("content", "warning"),
    [(None, "mlx has only the reference BLAS here, 30 to 100 times slower"), (b"not a library", "(OSError: ")],
    ids=["absent", "broken"],
)
def test_warning_names_the_fix(
    libraries: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, warning: str
) -> None:
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    if content is not None:
        (libraries / "libmkl_rt.so.3").write_bytes(content)

    found, text = blas.preload_blas.__wrapped__()

    assert found is None
    assert warning in text
    assert blas.FIX in text
    assert blas.describe(found, text) == text


@linux
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (blas.ENVIRONMENT, "reference", "ENGRAM_BLAS=reference"),
        (SWITCH, "none", "switched off by ENGRAM_CAPABILITIES=none"),
    ],
    ids=["environment", "switch"],
)
def test_a_reference_the_user_wants_is_no_warning_and_stands_in_the_note(
    libraries: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    (libraries / "libmkl_rt.so.3").touch()
    monkeypatch.setenv(name, value)

    found, warning = blas.preload_blas.__wrapped__()

    assert (found, warning) == (None, "")
    assert blas.describe(found, warning) == f"reference BLAS, 30 to 100 times slower: {reason}"
    assert f"reference BLAS, 30 to 100 times slower: {reason}" in mlx_device().note


PRODUCT = """
import json, time
from engram_bench.backends.machine.blas import preload_blas
blas, warning = preload_blas()
import mlx.core as mx
a = mx.arange(12.0).reshape(3, 4); values = (a @ a.T).tolist()
a = mx.ones((768, 768))
def seconds():
    started = time.process_time()
    mx.eval(a @ a)
    return time.process_time() - started
print(json.dumps([values, blas is not None, warning, min(seconds() for _ in range(4))]))
"""


@linux
@pytest.mark.usefixtures("untried")
def test_mlx_multiplies_with_the_preloaded_library_and_right_without_one() -> None:
    if find_spec("mlx") is None:
        pytest.skip("mlx is not installed")
    results = []
    for environment in ({}, {SWITCH: "none"}):
        command = [sys.executable, "-W", "error", "-c", PRODUCT]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout))
    (values, has_fast, _, seconds), (plain_values, plain_has_fast, plain_warning, plain_seconds) = results

    assert values == plain_values == [[14.0, 38.0, 62.0], [38.0, 126.0, 214.0], [62.0, 214.0, 366.0]]
    assert (plain_has_fast, plain_warning) == (False, "")
    assert has_fast is (blas.find_blas() is not None)
    assert not has_fast or seconds < plain_seconds / 3
