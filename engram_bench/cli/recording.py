"""A terminal session as an asciicast v2 file, for asciinema and for ``docs/demo/render.py``.

Source: https://docs.asciinema.org/manual/asciicast/v2/
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from engram_bench.system import provenance
from engram_bench.system.files import write_atomic


class Recorder(io.TextIOBase):
    """A stream that notes what is written to it and when, and passes it on."""

    encoding = "utf-8"

    def __init__(self, through: TextIO | None = None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._through = through
        self._clock = clock
        self._started = clock()
        self._events: list[tuple[float, str]] = []

    def write(self, text: str) -> int:
        """Note and pass on."""
        if text:
            self._events.append((self._clock() - self._started, text))
        if self._through is not None:
            self._through.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on."""
        if self._through is not None:
            self._through.flush()

    def isatty(self) -> bool:
        """It is to be played on one."""
        return True

    def asciicast(self, *, width: int, height: int, title: str) -> str:
        """The file's text: a header line, then a line per write. The header says where the recording comes from."""
        header = {
            "version": 2,
            "width": width,
            "height": height,
            "title": title,
            "command": provenance.command_line(),
            "env": {"TERM": "xterm-256color"},
            "recorded": {
                "at": provenance.utc_now(),
                "commit": provenance.git_commit(),
                "machine": provenance.machine(),
            },
        }
        lines = [header, *([round(at, 3), "o", text.replace("\n", "\r\n")] for at, text in self._events)]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def save(self, path: Path, *, width: int, height: int, title: str) -> None:
        """Write the file.

        Raises:
            StoreError: It cannot be written.
        """
        write_atomic(path, self.asciicast(width=width, height=height, title=title))
