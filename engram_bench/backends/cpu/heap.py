"""Memory that was freed goes back to the system.

Passes of ever other sizes leave holes in the C library's heap that it keeps: answering 10,000 prompts held a third more than
answering 131.
"""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give the heap's free pages back; nothing where the C library cannot (``malloc_trim`` is glibc's)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
