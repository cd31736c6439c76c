"""The matcher that compares calendar dates."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date as Day

from engram_bench.matchers.protocol import UnusableAnswer, miss, shown
from engram_bench.matchers.text import normalise

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_GAP = r"[\s,-]+"
_DATES = tuple(
    re.compile(rf"(?<![\w.]){form}(?!\d)", re.ASCII)
    for form in (
        rf"{_YEAR}(?P<mark>[-/.])(?P<month>\d\d?)(?P=mark)(?P<day>\d\d?)",
        rf"{_YEAR}(?P<month>\d\d)(?P<day>\d\d)",
        rf"{_DAY}{_GAP}(?:of\s+)?{_MONTH}{_GAP}{_YEAR}",
        rf"{_MONTH}{_GAP}{_DAY}{_GAP}{_YEAR}",
        rf"{_YEAR}{_GAP}{_MONTH}{_GAP}{_DAY}",
        rf"(?P<day>\d\d?)(?P<mark>[-/.])(?P<month>\d\d?)(?P=mark){_YEAR}",
    )
)


def date(text: str, answer: str) -> bool | str:
    """The first date of the text is the answer's calendar date; a time after it does not count.

    Read are ``2024-03-05``, ``2024/3/5``, ``20240305``, ``5 March 2024``, ``the 5th of March, 2024``, ``Mar. 5, 2024``,
    ``05-Mar-2024``, ``2024 March 5``, ``05.03.2024`` (day first, always), and ``03/05/2024`` or ``03-05-2024``.
    These last two are read month first and day first: where both give a date and not the same one, the text is
    ambiguous, which is a miss. Months are English, years have four digits.

    Raises:
        UnusableAnswer: The answer has no date, or an ambiguous one.
    """
    match _readings(answer):
        case [expected]:
            pass
        case []:
            message = f"answer {shown(answer)} has no date with day, month and four-digit year"
            raise UnusableAnswer(message)
        case several:
            message = f"answer {shown(answer)} may be {' or '.join(map(str, several))}, expected one date"
            raise UnusableAnswer(message)
    found = _readings(text)
    if len(found) > 1:
        return f"found {shown(text)}, which may be {' or '.join(map(str, found))}, expected {expected}"
    return found == [expected] or miss(text, f"the date {expected}")


def _readings(text: str) -> list[Day]:
    """What the first date of a text may mean, earliest first: no day, one, or two."""
    text = normalise(text)
    for found in sorted((found for form in _DATES for found in form.finditer(text)), key=re.Match.start):
        if days := _days(found):
            return days
    return []


def _days(found: re.Match[str]) -> list[Day]:
    year, day = int(found["year"]), int(found["day"])
    month = int(found["month"]) if found["month"].isdigit() else _MONTHS.index(found["month"][:3]) + 1
    is_open = found.re is _DATES[-1] and found["mark"] != "."
    days = set()
    for d, m in ((day, month), (month, day)) if is_open else ((day, month),):
        with suppress(ValueError):
            days.add(Day(year, m, d))
    return sorted(days)
