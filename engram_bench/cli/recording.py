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
    """A stream that records each text written to it with its time, and passes the text on."""

    encoding = "utf-8"

    def __init__(self, through: TextIO | None = None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._through = through
        self._clock = clock
        self._started = clock()
        self._events: list[tuple[float, str]] = []

    def write(self, text: str) -> int:
        """Record the text and pass it on; the number of characters."""
        if text:
            self._events.append((self._clock() - self._started, text))
        if self._through is not None:
            self._through.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind this one."""
        if self._through is not None:
            self._through.flush()

    def isatty(self) -> bool:
        """True: a recording is made to be played on a terminal."""
        return True

    def asciicast(self, *, width: int, height: int, title: str) -> str:
        """Text of the recording: a header line with its provenance, then a line per write.

        Args:
            width: Columns of the terminal.
            height: Lines of the terminal.
            title: Title that a player shows.
        """
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
        """Write the recording to *path*; the other arguments are those of :meth:`asciicast`.

        Raises:
            StoreError: The file cannot be written.
        """
        write_atomic(path, self.asciicast(width=width, height=height, title=title))
