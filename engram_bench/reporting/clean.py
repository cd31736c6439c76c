"""Untrusted text made printable: prompts, answers and names come from files and models, and may hold any character."""

from __future__ import annotations

PLAIN = str.maketrans(
    {"–": "-", "—": "-", "…": "~", "→": "->", "×": "x", "’": "'", "‘": "'", "“": '"', "”": '"', "✓": "+", "✗": "x"}
)
"""Typographic character of the package's own texts → its ASCII form."""


def printable(text: str, limit: int | None = None) -> str:
    r"""*text* on one line, with every character written out that a terminal would interpret or hide.

    Control characters (ANSI escapes, newlines, tabs), bidirectional overrides, zero-width and unusual spaces, lone
    surrogates and private characters become escapes such as ``\x1b`` and ``\u202e``. The function leaves its own results
    unchanged.

    Args:
        text: Any text.
        limit: Largest number of characters returned, at least 1; a text that is cut ends in ``…``. None cuts nothing.
    """
    if limit is not None:
        text = text[: limit + 1]
    shown = text if text.isprintable() else "".join(map(_visible, text))
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def printable_lines(text: str, limit: int, max_lines: int) -> list[str]:
    """The lines of *text* made printable.

    Args:
        text: Any text.
        limit: Largest number of characters per line.
        max_lines: Largest number of lines; a further line ``…`` says that more were cut.

    Returns:
        At least one line, which is ``(empty)`` for a text without visible characters.
    """
    if not text.strip():
        return [f"(empty: '{printable(text, limit)}')" if text else "(empty)"]
    lines = text.split("\n", max_lines)
    shown = [printable(line.removesuffix("\r"), limit) for line in lines[:max_lines]]
    return [*shown, "…"] if len(lines) > max_lines else shown


def encodable(line: str, encoding: str) -> str:
    """*line* with each character that *encoding* lacks replaced: typography by plain punctuation, the rest by escapes.

    An encoding that Python does not know counts as ASCII.
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
