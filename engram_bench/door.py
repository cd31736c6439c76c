r"""The door for words that are not ours: what a server, a file, an adapter, a model or a saved run says.

Every such text passes :func:`printable`, which makes it inert, before it reaches a terminal, a test's failure text, JUnit,
Markdown, HTML or an annotation:

- Nothing is interpreted: control characters, bidirectional controls, surrogates and private characters become escapes
  such as ``\x1b`` and ``\u202e``.
- Nothing is hidden: characters without a visible form (zero-width characters, unusual spaces, fillers, variation
  selectors) become escapes as well, so that two texts that look the same are the same.
- Nothing is a command of a CI system: neither ``::error ::`` at the start of a line nor ``##[error]`` or ``##vso[`` anywhere.
- Nothing is secret: keys and passwords of this process (:func:`hide`) are replaced by ``HIDDEN`` in every usual form.

A message of this package's errors passes :func:`inert`, which does the same line by line, when it is turned into text.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from html import escape
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "HIDDEN"
"""Text in place of a secret."""
SHORTEST_SECRET = 6
"""Characters of the shortest secret that is searched for; a shorter one would be found inside ordinary words."""
PLACEHOLDERS = frozenset({"ollama", "lm-studio", "not-needed", "no-key-required", "sk-no-key-required"})
"""Keys that documentations of servers use where none is needed: no secrets, and words of ordinary answers."""

LONGEST_LINE = 4000
"""Characters shown of a line of an error's message."""
MOST_LINES = 1000
"""Lines shown of an error's message."""

PLAIN = str.maketrans(
    {"–": "-", "—": "-", "…": "~", "→": "->", "×": "x", "’": "'", "‘": "'", "“": '"', "”": '"', "✓": "+", "✗": "x"}
)
"""Typographic character of the package's own texts → its ASCII form."""

_UNSEEN = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"  # "default ignorable"
    "\u2800\U0001d159"  # blank by design
)
"""Characters that Python counts as printable and that have no visible form, as a class of a regular expression."""
_COMMAND = r"\A\s*::(?=[A-Za-z][\w-]*(?:\s.*)?::)|##(?=\w*\[)"
"""What a CI system takes for a command: GitHub's at the start of a line, the older form and Azure's anywhere.

Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands; the runner ignores spaces
before ``::``.
"""
_ODD = re.compile(f"[{_UNSEEN}]|{_COMMAND}")
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")

_secrets: frozenset[str] = frozenset()
_secret_forms: tuple[str, ...] = ()
"""Every form of every secret in lower case, the longest first."""


# ── inert text ──────────────────────────────────────────────────────────────────────────────────


def printable(text: str, limit: int | None = None) -> str:
    r"""*text* on one line, inert, with every character written out that a terminal would interpret or hide.

    The function leaves its own results unchanged.

    Args:
        text: Any text.
        limit: Largest number of characters returned, at least 1; a text that is cut ends in ``…``. None cuts nothing.
    """
    text = scrubbed(text)  # before the cut, which would leave a part of a secret
    if limit is not None:
        text = text[: limit + 1]
    shown = text if _is_inert(text) else scrubbed(_written_out(text))
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
    lines = scrubbed(text).split("\n", max_lines)
    shown = [printable(line.removesuffix("\r"), limit) for line in lines[:max_lines]]
    return [*shown, "…"] if len(lines) > max_lines else shown


def inert(text: str) -> str:
    """*text* with its lines kept and each made printable; at most ``MOST_LINES`` of at most ``LONGEST_LINE`` characters."""
    return "\n".join(printable_lines(text, LONGEST_LINE, MOST_LINES)) if text.strip() else printable(text, LONGEST_LINE)


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


def inert_json(text: str) -> str:
    """JSON text in ASCII that has the same values and no command of a CI system, without the secrets of this process."""
    return scrubbed(text).replace("##", "\\u0023#")


def _is_inert(text: str) -> bool:
    if text.isascii():  # most texts, for which the expression would be slow
        return text.isprintable() and "##" not in text and not text.lstrip().startswith("::")
    return text.isprintable() and not _ODD.search(text)


def _written_out(text: str) -> str:
    return _ODD.sub(_disarmed, "".join(char if char.isprintable() else _code(char) for char in text))


def _disarmed(found: re.Match[str]) -> str:
    r"""The match with its first character that has a meaning written as a code: ``\x3a:error::``, ``\x23#[error]``."""
    text = found[0]
    if text.endswith("::"):
        return f"{text[:-2]}\\x3a:"
    return f"\\x23{text[1:]}" if text == "##" else _code(text)


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────


def hide(*secrets: str | None) -> None:
    """Replace these values by ``HIDDEN`` in every text that passes from now on, in any usual form and case.

    The forms are the value itself and the value in a URL, in Base64 (as in ``Authorization: Basic``), in JSON, in HTML and
    with escapes. Space around a value is no part of it. Empty values, values under ``SHORTEST_SECRET`` characters and
    ``PLACEHOLDERS`` are left alone.
    """
    global _secrets, _secret_forms
    values = {each.strip() for each in secrets if each}
    found = {each for each in values if len(each) >= SHORTEST_SECRET and each.lower() not in PLACEHOLDERS}
    if found <= _secrets:
        return
    _secrets |= found
    forms = {form.lower() for secret in _secrets for form in _forms(secret)}
    _secret_forms = tuple(sorted(forms, key=len, reverse=True))


def hide_credentials(text: str) -> None:
    """Hide the user and password of every URL in *text*; of a user without a password, the user.

    The names of users stay visible where a password stands beside them.
    """
    for found in _USERINFO.findall(text):
        userinfo = found.removesuffix("@")
        user, _, password = userinfo.partition(":")
        hide(userinfo, unquote(userinfo), password or user, unquote(password or user))


def without_credentials(url: str) -> str:
    """The URL without user and password."""
    return _USERINFO.sub("", url)


def scrubbed(text: str) -> str:
    """*text* with ``HIDDEN`` in place of the secrets of this process."""
    if not _secret_forms:
        return text
    lowered = text.lower()
    found = [
        form for form in _secret_forms if form in lowered
    ]  # far faster than the expression, and nearly always empty
    return re.sub("|".join(map(re.escape, found)), HIDDEN, text, flags=re.IGNORECASE) if found else text


def _forms(secret: str) -> Iterator[str]:
    coded = secret.encode("utf-8", "surrogatepass")
    yield from (secret, quote(coded, safe=""), quote(coded), quote_plus(coded))
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(coded).decode().rstrip("=")
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])
    yield from (escape(secret), _written_out(secret))
