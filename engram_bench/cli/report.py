"""Show a saved run again, in any form, or judge it by other gates; no model is needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engram_bench.cli.arguments import add_json, add_settings
from engram_bench.cli.bench import show
from engram_bench.cli.console import encoding, say
from engram_bench.cli.project import settings_of
from engram_bench.system.files import write_atomic

if TYPE_CHECKING:
    from engram_bench.session.conclusion import Conclusion

FORMATS = ("text", "markdown", "json", "html")


def declare(parser: argparse.ArgumentParser) -> None:
    """Which run, in which form, to where."""
    parser.add_argument(
        "run_reference", nargs="?", default="latest", metavar="RUN", help="Number, name or file. Default: latest."
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="Form of the report. Default: text.")
    parser.add_argument("-o", "--out", metavar="FILE", help="Write it to this file. Default: print it.")
    add_settings(parser, "gate", "report-dir", "show", "compare")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show it; 1 if a gate fails now."""
    from engram_bench.runs import store as run_store
    from engram_bench.session.conclusion import conclude

    settings = settings_of(args)
    path = run_store.find_run(settings.report_dir, args.run_reference)
    conclusion = conclude(run_store.load_run(path), settings)
    older = run_store.load_run(run_store.find_run(settings.report_dir, settings.compare)) if settings.compare else None
    as_json = args.json or args.format == "json"
    if args.out is None and (as_json or args.format == "text"):
        return show(conclusion, settings, page=path, older=older, as_json=as_json)
    text = _RENDER["json" if as_json else args.format](conclusion)
    if args.out is None:
        say(text.removesuffix("\n"))
    else:
        write_atomic(Path(args.out), text)
    return 0 if conclusion.passes else 1


def _text(conclusion: Conclusion) -> str:
    from engram_bench.reporting.terminal import comparison_lines

    lines = comparison_lines(conclusion.run, conclusion.comparison, conclusion.verdicts, width=100, encoding=encoding())
    return "\n".join(lines) + "\n"


def _markdown(conclusion: Conclusion) -> str:
    from engram_bench.reporting.markdown import markdown_report

    return markdown_report(conclusion.run, conclusion.comparison, conclusion.verdicts)


def _json(conclusion: Conclusion) -> str:
    from engram_bench.reporting.json_report import json_text

    return json_text(conclusion.run, conclusion.comparison, conclusion.verdicts)


def _html(conclusion: Conclusion) -> str:
    from engram_bench.reporting.html import html_report

    return html_report(conclusion.run, conclusion.comparison, conclusion.verdicts)


_RENDER: dict[str, Callable[[Conclusion], str]] = {"text": _text, "markdown": _markdown, "json": _json, "html": _html}
