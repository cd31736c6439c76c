"""What a user should know of the machine before a training, reported once through the training's progress."""

from __future__ import annotations

from collections.abc import Iterable

from engram_bench.system.progress import Progress

STAGE = "machine"
_REPORTED: set[str] = set()


def tell(remarks: Iterable[str], progress: Progress) -> None:
    """Pass each of the *remarks* to *progress* as a message, unless this process has done so before."""
    for remark in remarks:
        if remark not in _REPORTED:
            _REPORTED.add(remark)
            progress(STAGE, 1, 1, remark)


def forget() -> None:
    """Let every remark be reported again."""
    _REPORTED.clear()
