"""Which matrix library mlx gets on Linux."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from engram_bench.backends.machine import blas

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux wheels of mlx need another BLAS")


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder that is the only place libraries are looked for in."""
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
def test_find_blas_prefers_mkl_and_skips_what_mlx_cannot_call(libraries: Any, files: Any, chosen: Any) -> None:
    for name in files:
        (libraries / name).touch()

    found = blas.find_blas()

    assert (found and (found.name, found.path.name)) == chosen


@linux
def test_environment_names_the_library(libraries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blas.ENVIRONMENT, "/opt/x/libfast.so.2")

    assert blas.find_blas() == blas.Blas("fast", Path("/opt/x/libfast.so.2"))


@linux
def test_environment_can_keep_the_reference(libraries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (libraries / "libmkl_rt.so.3").touch()
    monkeypatch.setenv(blas.ENVIRONMENT, "reference")

    assert blas.find_blas() is None


@linux
@pytest.mark.parametrize(
    ("content", "warning"),
    [(None, "only the reference BLAS"), (b"not a library", "cannot be loaded")],
    ids=["absent", "broken"],
)
def test_warning_names_the_fix(libraries: Any, monkeypatch: pytest.MonkeyPatch, content: Any, warning: Any) -> None:
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    if content is not None:
        (libraries / "libmkl_rt.so.3").write_bytes(content)

    found, text = blas.preload_blas.__wrapped__()

    assert found is None
    assert warning in text
    assert blas.FIX in text


@linux
def test_preloaded_library_is_the_one_mlx_calls() -> None:
    if find_spec("mlx") is None:
        pytest.skip("mlx is not installed")
    if blas.find_blas() is None:
        pytest.skip("no MKL, OpenBLAS or BLIS here")
    script = """
import sys, time
from engram_bench.backends.machine.blas import preload_blas
if sys.argv[1] == "fast":
    preload_blas()
import mlx.core as mx
a = mx.ones((768, 768)); mx.eval(a @ a)
started = time.perf_counter(); mx.eval(a @ a)
print(2 * 768**3 / (time.perf_counter() - started) / 1e9)
"""
    speed = {
        kind: float(
            subprocess.run([sys.executable, "-c", script, kind], capture_output=True, text=True, check=True).stdout
        )
        for kind in ("fast", "reference")
    }

    assert speed["fast"] > 3 * speed["reference"]
