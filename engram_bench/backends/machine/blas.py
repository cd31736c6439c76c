"""The matrix library mlx computes with on a Linux CPU: found, preloaded, named.

mlx's Linux CPU wheel brings the reference BLAS (3-6 GFLOP/s on two cores, where MKL reaches 190-320). The dynamic linker
resolves ``cblas_sgemm`` in the global scope first, so a faster library loaded there *before* ``mlx.core`` is what mlx calls.
A library is tried in a scope of its own first: one that cannot multiply here never reaches mlx.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engram_bench.backends.machine.capabilities import find, switched_off
from engram_bench.system.reading import read_text

ENVIRONMENT = "ENGRAM_BLAS"
"""Path of a library to use instead of the one found; ``reference`` keeps mlx's own."""
FIX = (
    "pip install mkl" if platform.machine() in {"x86_64", "AMD64"} else "install your system's OpenBLAS (libopenblas0)"
)
SYMBOL = "cblas_sgemm"
ABILITY = "fast-blas"
SLOWER = "30 to 100 times slower"


@dataclass(frozen=True, slots=True)
class Blas:
    """A matrix library that exports the plain C interface."""

    name: str
    """``MKL``, ``OpenBLAS``, ``BLIS``, or the file's stem for one that was asked for."""
    path: Path


def unwanted() -> str:
    """Setting that keeps mlx's own library; empty without one."""
    return f"{ENVIRONMENT}=reference" if os.environ.get(ENVIRONMENT) == "reference" else switched_off(ABILITY)


def find_blas() -> Blas | None:
    """The library :func:`preload_blas` would try, found by the file system alone; None if there is only the reference.

    Order: the path in ``ENGRAM_BLAS``; MKL, OpenBLAS, BLIS in the environment's ``lib``; the same in the system's folders.
    The OpenBLAS inside numpy's and scipy's wheels exports renamed symbols and cannot serve.
    """
    if sys.platform != "linux" or unwanted():
        return None
    asked = os.environ.get(ENVIRONMENT, "")
    if asked:
        return Blas(Path(asked).name.partition(".")[0].removeprefix("lib"), Path(asked))
    return next(_candidates(), None)


@cache
def preload_blas() -> tuple[Blas | None, str]:
    """Load the fastest BLAS into the global scope; which one, and a warning with the fix (empty if all is well).

    Once per process; on another system than Linux nothing is loaded and nothing is wrong. So it is where the user wants none.
    """
    if sys.platform != "linux":
        return None, ""
    if _is_preloaded():
        return _preloaded(), ""
    if unwanted():
        return None, ""
    if "mlx.core" in sys.modules:
        return (
            None,
            "mlx was imported before engram-bench could preload a fast BLAS: import engram_bench.backends.mlx first",
        )
    found = find_blas()
    if found is None:
        return None, f"mlx has only the reference BLAS here, {SLOWER}: {FIX}"
    able = find(ABILITY, lambda: _try_product(found.path))
    if not able.is_there:
        return None, f"{found.path}: cannot be used ({able.reason}); mlx falls back to the reference BLAS: {FIX}"
    ctypes.CDLL(str(found.path), mode=ctypes.RTLD_GLOBAL)
    return found, ""


def describe(blas: Blas | None, warning: str = "") -> str:
    """What mlx multiplies with on a processor, for a device's note."""
    if blas is not None:
        return f"BLAS {blas.name} ({blas.path})"
    return warning or f"reference BLAS, {SLOWER}: {unwanted() or FIX}"


def _try_product(path: Path) -> str:
    """What is wrong with the library's product of two small matrices."""
    multiply = getattr(ctypes.CDLL(str(path)), SYMBOL)
    row_major, as_it_is = 101, 111
    x, weight = (ctypes.c_float * 6)(1, 2, 3, 4, 5, 6), (ctypes.c_float * 6)(7, 8, 9, 10, 11, 12)  # (2, 3), (3, 2)
    product, one, zero = (ctypes.c_float * 4)(), ctypes.c_float(1), ctypes.c_float(0)  # (2, 2)
    multiply.restype = None
    multiply(row_major, as_it_is, as_it_is, 2, 2, 3, one, x, 3, weight, 2, zero, product, 2)
    found, expected = list(product), [58.0, 64.0, 139.0, 154.0]
    return "" if found == expected else f"{SYMBOL} gave {found}, expected {expected}"


def _is_preloaded() -> bool:
    """Whether the global scope of this process has a BLAS."""
    return hasattr(ctypes.CDLL(None), SYMBOL)


def _preloaded() -> Blas:
    """The library somebody else (``LD_PRELOAD``, another extension) put into the global scope."""
    for line in read_text(Path("/proc/self/maps"), errors="replace").splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        for name, part in (("MKL", "libmkl_rt"), ("OpenBLAS", "openblas"), ("BLIS", "libblis")):
            if path.name.startswith((part, f"lib{part}")):
                return Blas(name, path)
    return Blas("preloaded", Path())


def _candidates() -> Iterator[Blas]:
    """Libraries in order of preference. A plain file name is enough: the wheels of MKL carry their own loader paths."""
    for folder in _folders():
        for name, pattern in (("MKL", "libmkl_rt.so*"), ("OpenBLAS", "libopenblas*.so*"), ("BLIS", "libblis*.so*")):
            for path in sorted(folder.glob(pattern), key=lambda path: len(path.name)):
                if "64" not in path.name.partition(".so")[0]:  # 64-bit integers: another calling convention
                    yield Blas(name, path)
    for name, short in (("MKL", "mkl_rt"), ("OpenBLAS", "openblas"), ("BLIS", "blis")):
        path_name = ctypes.util.find_library(short)
        if path_name:
            yield Blas(name, Path(path_name))


def _folders() -> list[Path]:
    """Where pip, conda and the distribution put shared libraries; existing ones, without repeats."""
    site = Path(sysconfig.get_path("purelib"))
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    folders = [
        Path(sys.prefix) / "lib",
        site.parent.parent,  # mkl's wheel: <prefix>/lib beside <prefix>/lib/python3.x/site-packages
        Path(sys.base_prefix) / "lib",
        Path.home() / ".local/lib",
        Path("/usr/lib") / multiarch,
        Path("/usr/lib") / multiarch / "openblas-pthread",
        Path("/usr/lib64"),
        Path("/usr/local/lib"),
        Path("/opt/intel/oneapi/mkl/latest/lib"),
    ]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
