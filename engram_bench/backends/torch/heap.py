"""Limits that keep the memory of a process from growing with the number of passes.

Passes of many different sizes leave holes in the heap of the C library, and oneDNN keeps code for each number of rows in a
product. Without these limits, 10,000 prompts took a third more memory than 131.
"""

from __future__ import annotations

import ctypes
import os
import sys

PRIMITIVES = 32
"""Number of matrix products whose code is kept; a training step has about twelve kinds."""


def give_back() -> None:
    """Return free pages of the heap to the system. Without glibc, which has ``malloc_trim``, nothing happens."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def bound_primitives() -> None:
    """Let oneDNN and torch keep the code of few matrix products, not of 1,024. Environment variables of the user win.

    A call after the first product has no effect. Source: oneDNN, developer guide, "Primitive Cache"; ideep,
    ``lru_cache.hpp``.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(PRIMITIVES))
