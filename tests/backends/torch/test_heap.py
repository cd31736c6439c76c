"""Freed memory leaves the process."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from engram_bench.backends.torch import CpuBackend
from engram_bench.backends.torch.heap import PRIMITIVES, give_back

PAGES, MIB = 4096, 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGES


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_holes_in_the_heap_are_given_back() -> None:
    blocks = [np.ones(12_000) for _ in range(1000)]  # 94 KiB each: of the heap, not mapped by itself
    kept = blocks[::2]
    del blocks
    before = resident()

    give_back()

    assert resident() < before - 20 * MIB
    assert all(block.all() for block in kept)


def test_elsewhere_no_c_library_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)  # there ``CDLL(None)`` is a TypeError

    give_back()


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())

    give_back()


def test_a_backend_keeps_few_products_unless_the_environment_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"LRU_CACHE_CAPACITY": "200"})

    CpuBackend()

    assert os.environ == {"LRU_CACHE_CAPACITY": "200", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(PRIMITIVES)}
