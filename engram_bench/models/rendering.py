"""Chat templates rendered within bounds on time and memory.

A template whose syntax alone keeps it within bounds is rendered here. Any other one is rendered by a process that is ended
when it takes more than it may; one process serves all templates of this one.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engram_bench.models import template_worker
from engram_bench.models.ordinary_template import ordinary_template

CPU_S = 2.0
"""Most processor time of one rendering; ordinary templates take a ten-thousandth of it."""
BATCH = 256
"""Renderings per request."""


class TemplateError(Exception):
    """A chat template cannot be rendered: broken, refused by itself, or beyond the bounds."""


class TemplateSyntaxError(TemplateError):
    """A chat template is no Jinja template."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line
        """Line of the mistake in the template, counted from 1."""


class BoundedTemplate:
    """A template that another process renders.

    Args:
        source: Jinja source of the template.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._ordinary = ordinary_template(_environment(), source)

    def render(self, **variables: Any) -> str:
        """The text of the template with these variables, which are plain JSON values.

        Raises:
            TemplateSyntaxError: The source is no template.
            TemplateError: The template refuses the variables, fails, or takes more time or memory than it may.
        """
        return self.render_many([variables])[0]

    def render_many(self, variables: Sequence[Mapping[str, Any]]) -> list[str]:
        """The texts of the template with each of the *variables*, in order.

        Raises:
            TemplateError: As :meth:`render`.
        """
        if self._ordinary is not None:
            return [_text(template_worker.answer(lambda _: self._ordinary, "", dict(each))) for each in variables]
        answers = []
        for first in range(0, len(variables), BATCH):
            answers += _worker().ask(self.source, variables[first : first + BATCH])
        return [_text(answer) for answer in answers]


@lru_cache(maxsize=1)
def _environment() -> Any:
    return template_worker.environment()


class _Worker:
    """The process that renders, and the one conversation with it."""

    def __init__(self) -> None:
        command = [
            sys.executable,
            "-I",
            "-S",
            str(Path(template_worker.__file__)),
            str(CPU_S),
            *_folders("jinja2", "markupsafe"),
        ]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            msg = f"the process that renders it cannot be started: {error.strerror or error}"
            raise TemplateError(msg) from error
        self._lock = threading.Lock()

    def ask(self, source: str, variables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The answers to one request.

        Raises:
            TemplateError: The process has ended.
        """
        request = json.dumps({"source": source, "variables": list(variables)}).encode() + b"\n"
        with self._lock, _Deadline(self._process, len(variables)):
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            line = b""
            with suppress(OSError):
                self._process.stdin.write(request)
                self._process.stdin.flush()
                line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            _worker_of.cache_clear()
            raise TemplateError(self._end())
        answers: list[dict[str, Any]] = json.loads(line)
        return answers

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()

    def _end(self) -> str:
        """Why the process ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        status = self._process.poll()
        self.close()
        if status is not None and status == -getattr(signal, "SIGPROF", 0):
            return f"it takes more than {CPU_S:g} s of processor time"
        return f"the process that renders it has ended (status {status})"


class _Deadline:
    """Bound on the time of a request where the system has no clock that ends a process: on Windows."""

    def __init__(self, process: subprocess.Popen[bytes], renderings: int) -> None:
        has_clock = hasattr(signal, "setitimer")
        self._timer = None if has_clock else threading.Timer(30.0 + CPU_S * renderings, process.kill)

    def __enter__(self) -> None:
        if self._timer is not None:
            self._timer.start()

    def __exit__(self, *exception: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _folders(*packages: str) -> list[str]:
    """The folders that hold these packages, none of which is imported."""
    specs = [find_spec(package) for package in packages]
    return sorted({str(Path(spec.origin).parent.parent) for spec in specs if spec is not None and spec.origin})


@lru_cache(maxsize=1)
def _worker_of(process_id: int) -> _Worker:
    """The process that renders for the process of this number; a fork needs its own."""
    worker = _Worker()
    atexit.register(worker.close)
    return worker


def _worker() -> _Worker:
    return _worker_of(os.getpid())


def _text(answer: Mapping[str, Any]) -> str:
    if "text" in answer:
        return str(answer["text"])
    if "line" in answer:
        raise TemplateSyntaxError(answer["error"], answer["line"])
    raise TemplateError(answer["error"])
