"""Numbers in a text: each is read whole, or refused by name; a part is never taken for the whole."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from engram_bench.matchers.forms import fold_forms
from engram_bench.matchers.protocol import UnusableAnswer, miss, shown

TOLERANCE = Fraction(1, 10**9)
"""How far apart two numbers may be, relative to the larger, where not both are whole."""
MAX_DIGITS = 4000
"""Longest number that is read, in digits; the size of a power counts as well."""

_SPACES = " \u00a0\u2007\u2009\u202f"
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
}
_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_START = re.compile(
    rf"(?<![\w.])(?:(?P<sign>[-+−–]) ?(?=[\d.{_VULGAR}]|[$€£¥₹]))?[$€£¥₹]? ?(?=\.?\d|[{_VULGAR}])"
    rf"|(?<![\w.])(?=\.?\d|[{_VULGAR}])"
)
"""Where a number may begin: not inside a word or a version, behind its sign and currency."""
_RADIX = re.compile(r"0x[0-9a-f]+|0o[0-7]+|0b[01]+", re.IGNORECASE)
_GROUPED = re.compile(
    rf"\d{{1,3}}(?:,\d{{3}})+|\d{{1,3}}(?:_\d{{3}})+|\d{{1,3}}(?:['’]\d{{3}})+|\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?!\d)"
    r"|\d{1,3}(?:\{,\}\d{3})+|\d{1,3}(?:\\,\d{3})+"
)
_PLAIN = re.compile(r"(?:\d+)?\.\d+|\d+")
_EXPONENT = re.compile(r"e[-+]?\d{1,3}(?!\d|\.\d)", re.IGNORECASE)
_POWER = re.compile(
    r"(?:\^|\*\*)\s?(?:\{([-+−]?\d{1,4})\}|\(([-+−]?\d{1,4})\)|([-+−]?\d{1,4}))|([⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,4})"
)
_TIMES_TEN = re.compile(r"\s?(?:[×x*·⋅]|\\times|\\cdot)\s?10(?=\^|\*\*|[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹])")
_FRACTION = re.compile(r"[/⁄](\d+)(?![\d/.,:])")
_MIXED = re.compile(rf"(?: | and |-)?(?:(\d{{1,3}})[/⁄](\d{{1,3}})(?![\d/.,:])|([{_VULGAR}]))")
_SCALE = re.compile(rf"[{_SPACES}-]?({'|'.join(_SCALES)})s?\b", re.IGNORECASE)
_GOES_ON = re.compile(
    rf"""
      (?P<digits>[.,'’]?\d | _+\w | [eE][-+]?\d | \{{,\}}\d | \\,\d | \.\.+\s?\d | [.,]{{0,1}}[⁰¹²³⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉])
    | (?P<part>[{_VULGAR}]|\s?and\sa\s(?:half|quarter|third)\b)
    | (?P<operation>\s?(?:[*×÷^·⋅]|\*\*|\\times|\\cdot|[/⁄:])\s?[-+−]?[\d(.]
      | \s?[-+–—−x=]\s?\d | \s?(?:mod|choose)\b)
    | (?P<scale>[kKMBT](?!\w) | (?:bn|mn|mio|mrd|tn)\b\.? | \s?(?:quadrillion|gross|score|tens|Mio|Mrd)s?\b | [万萬億亿兆千百十])
    | (?P<constant>\s?[πℯ∞]|\s?pi\b|\s?√)
    """,
    re.VERBOSE,
)
"""What makes the digits before it a part of something longer."""
_REFUSED = {
    "digits": "more digits or separators follow",
    "part": "a fraction follows",
    "operation": "it is a range, a ratio or a calculation",
    "scale": "a scale follows that is not read",
    "constant": "a constant follows",
}
_NUMERALS = re.compile(r"[\u2150-\u218b\u2460-\u249b\u24ea-\u24ff\u2776-\u2793]")
"""Roman, circled and bracketed numerals."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What stands where the first number of a text begins."""

    value: Fraction | None
    refusal: str = ""
    """Why the numeral is refused; empty with a value."""


def number(text: str, answer: str) -> bool | str:
    r"""The first number of the text is the answer's: exactly where both are whole, within :data:`TOLERANCE` otherwise.

    Read are ``1024``, ``-3``, ``.5``, ``1e3``, ``0xff``, ``0o17``, ``0b101``; thousands grouped by comma, underscore,
    apostrophe, space (no-break and thin ones as well), ``{,}`` or ``\,``; fractions ``3/4``, ``½``, ``1 1/2``; powers
    ``10^6``, ``10**6``, ``10⁶``, ``1.5×10^6``; ``2 million`` (dozen, hundred, thousand, lakh, million, crore, billion,
    trillion); decimal digits of every script. A unit may follow: ``10ms`` is 10, ``3rd`` is 3, ``50%`` is 50 and not 0.5.

    A text whose first number is anything longer is refused by name, which is a miss: a decimal comma (``3,14``), a range
    (``2-3``), a time (``12:30``), a calculation (``2 + 2``), ``5k``, ``2π``. Digits inside a word or a version (``utf8``,
    ``3.11.2``) are no number and are passed over.

    Raises:
        UnusableAnswer: The answer has no number that is read.
    """
    expected = _first(answer)
    if expected is None or expected.value is None:
        reason = f": {expected.refusal}" if expected else ""
        message = f"answer {shown(answer)} has no number{reason}"
        raise UnusableAnswer(message)
    found = _first(text)
    wanted = f"the number {shown(answer)} first"
    if found is None:
        return miss(text, wanted)
    if found.value is None:
        return f"found {shown(text)}, whose first number is not read: {found.refusal}; expected {wanted}"
    return _same(found.value, expected.value) or miss(text, wanted)


def _first(text: str) -> _Found | None:
    """The first number, or the refusal of the first numeral; None without any."""
    text = _in_ascii_digits(fold_forms(text))
    at = 0
    while start := _START.search(text, at):
        if numeral := _NUMERALS.search(text, at, start.start()):
            return _Found(None, f"{numeral[0]!r} is a numeral of another kind")
        if version := _VERSION.match(text, start.end()):
            at = version.end()
            continue
        return _read(text, start.end(), is_negative=start["sign"] in ("-", "−", "–"))
    numeral = _NUMERALS.search(text, at)
    return _Found(None, f"{numeral[0]!r} is a numeral of another kind") if numeral else None


_VERSION = re.compile(r"\d+(?:\.\d+){2,}")


def _read(text: str, at: int, *, is_negative: bool) -> _Found:
    """The number that begins at a position of the text, read to its end."""
    if at >= 1 and "√" in text[max(0, at - 2) : at]:
        return _Found(None, "a root")
    value, end = _magnitude(text, at)
    if value is None:
        return _Found(None, f"it has more than {MAX_DIGITS} digits")
    if (further := _GOES_ON.match(text, end)) is not None:
        return _Found(None, _REFUSED[further.lastgroup or "digits"])
    return _Found(-value if is_negative else value)


def _magnitude(text: str, at: int) -> tuple[Fraction | None, int]:
    """A number without its sign, and where it ends; None for one that is too long."""
    if radix := _RADIX.match(text, at):
        return Fraction(int(radix[0], 0)) if len(radix[0]) <= MAX_DIGITS else None, radix.end()
    if text[at] in _VULGAR:
        return _vulgar(text[at]), at + 1
    value, end = _decimal(text, at)
    if value is None:
        return None, end
    if power := _POWER.match(text, end):
        raised = _raised(value, power)
        return raised, power.end()
    if ten := _TIMES_TEN.match(text, end):
        power = _POWER.match(text, ten.end())
        if power is not None:
            raised = _raised(Fraction(10), power)
            return (None if raised is None else value * raised), power.end()
    if value.denominator == 1:
        if fraction := _FRACTION.match(text, end):
            return _quotient(value, fraction[1]), fraction.end()
        if mixed := _MIXED.match(text, end):
            part = _vulgar(mixed[3]) if mixed[3] else _quotient(Fraction(int(mixed[1])), mixed[2])
            if part is not None and part < 1:
                return value + part, mixed.end()
    if scale := _SCALE.match(text, end):
        return value * _SCALES[scale[1].lower()], scale.end()
    return value, end


def _decimal(text: str, at: int) -> tuple[Fraction | None, int]:
    """Digits with separators, a decimal point and an exponent."""
    whole = _GROUPED.match(text, at) or _PLAIN.match(text, at)
    assert whole is not None  # a digit stands there
    digits, end = re.sub(r"[^\d.]", "", whole[0]), whole.end()
    if "." not in digits and (rest := re.compile(r"\.\d+").match(text, end)):
        digits, end = digits + rest[0], rest.end()
    exponent = _EXPONENT.match(text, end)
    end = exponent.end() if exponent else end
    if len(digits) > MAX_DIGITS:
        return None, end
    return Fraction(Decimal(digits + (exponent[0] if exponent else ""))), end


def _raised(base: Fraction, power: re.Match[str]) -> Fraction | None:
    """The power, if it has at most MAX_DIGITS digits; 0 to a negative power has no value."""
    shown_exponent = next(group for group in power.groups() if group)
    exponent = int(shown_exponent.translate(_SUPERSCRIPTS).replace("−", "-"))
    digits = len(str(max(base.numerator, base.denominator)))
    if digits * abs(exponent) > MAX_DIGITS or (not base and exponent < 0):
        return None
    return base**exponent


def _quotient(numerator: Fraction, denominator: str) -> Fraction | None:
    if len(denominator) > MAX_DIGITS or not int(denominator):
        return None
    return numerator / int(denominator)


def _vulgar(character: str) -> Fraction:
    """The value of ``½`` and its like."""
    return Fraction(unicodedata.numeric(character)).limit_denominator(10)


def _same(a: Fraction, b: Fraction) -> bool:
    if a.denominator == b.denominator == 1:
        return a == b
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b))


def _in_ascii_digits(text: str) -> str:
    """The text with the decimal digits of every script as 0 to 9, and Arabic separators as ``.`` and ``,``."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else {"٫": ".", "٬": ","}.get(c, c) for c in text)
