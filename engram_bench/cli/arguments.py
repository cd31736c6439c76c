"""Arguments that several commands take; the settings are declared once, in ``engram_bench.session.options``."""

from __future__ import annotations

import argparse

from engram_bench.session.options import OPTIONS

PATTERNS = ("patterns",)
TRAINING = (
    *PATTERNS,
    "backend",
    "model",
    "kind",
    "recipe",
    "set",
    "load-in-4bit",
    "adapter-dir",
    "retrain",
    "steps",
    "seed",
)
CANDIDATES = ("candidate", "only", "seeds")
"""Settings that name several candidates, or choose among them."""
OF_TESTS = ("items", "gate-only")
"""Settings that only a session of tests has: how many items there are, and whether a miss fails its test."""
EVERYTHING = tuple(option.name for option in OPTIONS if option.name not in OF_TESTS)
"""Settings of a whole evaluation."""


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Declare these settings as ``--NAME``, with the help texts and the defaults of pytest's options."""
    group = parser.add_argument_group(
        "settings", "the ini keys engram_NAME of the project's pytest configuration set them too"
    )
    for option in OPTIONS:
        if option.name in names:
            option.declare(group.add_argument, prefix="--")


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Declare ``--speed``."""
    parser.add_argument(
        "--speed",
        action="store_true",
        help="Also time both models, with the pattern files of kind speed. This takes minutes on a CPU.",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``."""
    parser.add_argument("--json", action="store_true", help="Print one JSON document instead of text.")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Declare ``-q``."""
    parser.add_argument("-q", "--quiet", action="store_true", help="Show no progress bars.")
