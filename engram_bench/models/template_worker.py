"""The process that renders chat templates, run by its path with nothing but Jinja imported.

A template is a program of a stranger: it may loop for days or ask for gigabytes within one instruction, which no sandbox inside
a process can stop. This process may, by order of the system: each rendering has a few seconds of processor time and the
whole process :data:`MEMORY_BYTES` of memory.

Templates are rendered with the Jinja settings, filters and tags of transformers. Source of the conventions:
``transformers/utils/chat_template_utils.py``, version 5.17.

Each line of standard input is a request, ``{"source": …, "variables": [{…}, …]}``, and each line of standard output its answers:
``{"text": …}``, or ``{"error": …, "line": …}`` with the line of a mistake in the syntax.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

MEMORY_BYTES = 320 * 2**20
"""Address space of the process, of which Python and Jinja need about 50 MB."""
MAX_CHARACTERS = 16 * 2**20
"""Longest text of one rendering."""
FIXED_DATE = datetime(2024, 7, 26)
"""Date that templates get as today's date, which is Llama 3's default. A prompt must be the same in training and tests."""


def environment() -> Any:
    """The sandboxed environment that templates are compiled in."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationTag(Extension):
        """Tag ``{% generation %}…{% endgeneration %}``, which marks the assistant's text for trainers; its content counts.

        The content is a block of its own, as in transformers: what it sets is unset after it.
        """

        tags = {"generation"}  # noqa: RUF012  Jinja's interface

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

        def _content(self, caller: Any) -> Any:
            return caller()

    def to_json(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON as transformers writes it; Jinja's own filter would escape HTML."""
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = FIXED_DATE.strftime
    return made


def answer(compiled: Any, source: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The answer to one rendering."""
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        text = compiled(source).render(**variables)
    except TemplateSyntaxError as error:
        return {"error": str(error.message)[:500], "line": error.lineno}
    except TemplateError as error:
        return {"error": str(error)[:500]}
    except MemoryError:
        return {"error": f"it needs more than {MEMORY_BYTES >> 20} MB of memory"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    if len(text) > MAX_CHARACTERS:
        return {"error": f"it makes a text of {len(text):,} characters, expected at most {MAX_CHARACTERS:,}"}
    return {"text": text}


def serve(cpu_s: float) -> None:
    """Answer requests until standard input ends; each rendering has *cpu_s* seconds of processor time."""
    _bound_memory()
    made = environment()
    compiled = lru_cache(maxsize=32)(made.from_string)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answers = []
        for variables in request["variables"]:
            _set_clock(cpu_s)
            answers.append(answer(compiled, request["source"], variables))
        _set_clock(0)
        sys.stdout.buffer.write(json.dumps(answers).encode() + b"\n")
        sys.stdout.buffer.flush()


def _bound_memory() -> None:
    """Take the memory that this process may not use; where the system has no such bound, the time alone is bounded."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass


def _set_clock(seconds: float) -> None:
    """Let the system end this process after so much processor time, whatever instruction it is in; 0 stops the clock."""
    import signal

    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    sys.path += sys.argv[2:]  # where Jinja is; this process looks nowhere else
    serve(float(sys.argv[1]))
