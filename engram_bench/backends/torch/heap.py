"""Memory that does not grow with the number of passes.

Passes of ever other sizes leave holes in the C library's heap, and oneDNN keeps code for each number of rows that a product
had: answering 10,000 prompts held a third more than answering 131.
"""

from __future__ import annotations

import ctypes
import os
import sys

PRIMITIVES = 32
"""Products whose code is kept; a training step has about twelve kinds."""


def give_back() -> None:
    """Give the heap's free pages back; nothing where the C library cannot (``malloc_trim`` is glibc's)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def bound_primitives() -> None:
    """Let oneDNN and torch keep the code of few products each, not of 1,024; settings of the environment stay.

    Without effect after the first product. Source: oneDNN, developer guide, "Primitive Cache"; ideep, ``lru_cache.hpp``.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(PRIMITIVES))
