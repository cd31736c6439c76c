"""Untrusted text made printable: prompts, answers and names come from files and models and may hold anything."""

from __future__ import annotations

PLAIN = str.maketrans(
    {"–": "-", "—": "-", "…": "~", "→": "->", "×": "x", "’": "'", "‘": "'", "“": '"', "”": '"', "✓": "+", "✗": "x"}
)
"""The typography of this package's own texts in ASCII."""


def printable(text: str, limit: int | None = None) -> str:
    r"""*text* on one line, with every character that a terminal would act on or hide written out.

    Control characters (ANSI escapes, newlines, tabs), bidirectional overrides, zero-width and unusual spaces, lone
    surrogates and private characters become escapes such as ``\x1b`` and ``\u202e``. Printing the result again changes
    nothing.

    Args:
        text: Any text.
        limit: Most characters that come out, at least 1; what was cut ends in ``…``.
    """
    if limit is not None:
        text = text[: limit + 1]
    shown = text if text.isprintable() else "".join(map(_visible, text))
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def printable_lines(text: str, limit: int, max_lines: int) -> list[str]:
    """The lines of *text* made printable, at most *max_lines* of them; at least one, ``(empty)`` for none."""
    if not text.strip():
        return [f"(empty: '{printable(text, limit)}')" if text else "(empty)"]
    lines = text.split("\n", max_lines)
    shown = [printable(line.removesuffix("\r"), limit) for line in lines[:max_lines]]
    return [*shown, "…"] if len(lines) > max_lines else shown


def encodable(line: str, encoding: str) -> str:
    """*line* in characters that *encoding* has: plain punctuation for ours, escapes for the rest.

    An encoding that Python does not know is taken for ASCII.
    """
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return encodable(line, "ascii")
    return line


def _visible(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
