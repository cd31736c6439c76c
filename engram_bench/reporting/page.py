"""What every HTML page shares: its assets, its template engine, and the policy under which nothing foreign runs."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from engram_bench.door import printable

if TYPE_CHECKING:
    from jinja2 import Environment

LONGEST_TEXT = 4000
"""Longest text on a page, in characters."""


def policy(style: str, script: str) -> str:
    """The content security policy of a page: its own style and script by their hashes, and nothing else."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def script_json(data: Any) -> str:
    """JSON that is safe inside a ``<script>`` element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def environment() -> Environment:
    """Jinja with autoescaping; every value except the package's own markup is made printable."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    return Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value), LONGEST_TEXT),
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def asset(name: str) -> str:
    """Text of a file among the templates."""
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    """The hash of a text as a source in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
