"""Every backend: whether it can run on this machine, on which device, and what is missing where it cannot."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from engram_bench.cli.arguments import add_json
from engram_bench.cli.console import say, say_json, width
from engram_bench.reporting.clean import printable


def declare(parser: argparse.ArgumentParser) -> None:
    """Only the form of the output."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List them; 3 if none but the fake one can run."""
    from engram_bench.backends import choose_backend, known_backends

    found = {name: _facts(name, spec.library) for name, spec in known_backends().items()}
    auto, reason = choose_backend()
    if args.json:
        say_json({"auto": auto, "reason": reason, "backends": found})
    else:
        for name, fact in found.items():
            say(f"{name:<6} {printable(fact['library'])}", style="bold")
            about = textwrap.wrap(
                printable(fact["device"] or fact["missing"]), max(width() - 7, 20), break_on_hyphens=False
            )
            say(*(f"       {line}" for line in about), style="green" if fact["available"] else "yellow")
        say("", f"--backend auto takes {auto}: {reason}")
    return 0 if any(fact["available"] for name, fact in found.items() if name != "fake") else 3


def _facts(name: str, library: str) -> dict[str, Any]:
    from engram_bench.backends import device_info, unavailable_reason

    missing = unavailable_reason(name) or ""
    device = "" if missing else ", ".join(_device_words(device_info(name)))
    return {"library": library, "available": not missing, "device": device, "missing": missing}


def _device_words(info: Any) -> list[str]:
    versions = (f"{library} {version}" for library, version in info.versions.items())
    return [word for word in dict.fromkeys((info.device, info.dtype, *versions, info.note)) if word]
