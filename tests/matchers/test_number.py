"""Numbers and dates: which ways of writing are read, and which are refused rather than guessed."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_bench.matchers import Matcher, UnusableAnswer
from engram_bench.matchers.dates import date
from engram_bench.matchers.number import number

DAY = "2024-03-05"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It is 1,024 bytes.", "1024"),
        ("1_000_000", "1000000"),
        ("0xff", "255"),
        ("0b101", "5"),
        ("0o17", "15"),
        ("1e3", "1000"),
        ("2.50", "2.5"),
        (".5", "0.5"),
        ("-3", "-3"),
        ("−3", "-3"),
        ("+3", "3"),
        ("10ms", "10"),
        ("3rd", "3"),
        ("50%", "50"),
        ("$5.", "5"),
        ("x = 5", "5"),
        ("top-10", "10"),
        ("10²", "100"),
        ("utf8 has 4", "4"),
        ("Python 3.11.2 takes 64", "64"),
        ("0.1000000000001", "0.1"),
        ("18446744073709551615", "18446744073709551615 bytes"),
        ("1e999", "1e999"),
    ],
)
def test_number_reads(text: str, answer: str) -> None:
    assert number(text, answer) is True


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1025", "1024"),
        ("none", "1024"),
        ("", "0"),
        ("404 or 405", "405"),
        ("3,14", "3"),
        ("1,2,3", "1"),
        ("1,0245", "1"),
        ("3.11.2", "3.11"),
        ("192.168.0.1", "192"),
        ("utf8", "8"),
        ("0.100000001", "0.1"),
        ("1000000001", "1000000000"),
        ("18446744073709551616", "18446744073709551615"),
        ("1e999", "1e998"),
        ("-3", "3"),
        ("9" * 60_000, "9"),
        ("0x" + "f" * 60_000, "9"),
        ("1," * 30_000, "9"),
        ("1e1000", "9"),
    ],
    ids=lambda text: text[:20],
)
def test_number_misses(text: str, answer: str) -> None:
    assert str(number(text, answer)).startswith("found ")


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: float(f"{x:.12g}")))
def test_every_number_matches_itself_in_a_sentence(value: float) -> None:
    assert number(f"The answer is {value}.", str(value)) is True


@given(st.integers(-(10**18), 10**18))
def test_thousands_separators_do_not_count(value: int) -> None:
    assert number(f"{value:,}", str(value)) is True


@given(st.integers(), st.integers())
def test_whole_numbers_match_only_themselves(a: int, b: int) -> None:
    assert (number(str(a), str(b)) is True) == (a == b)


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-05",
        "2024/3/5",
        "2024.03.05",
        "20240305",
        "2024-03-05T23:59:59Z",
        "5 March 2024",
        "5 Mar 2024",
        "05-Mar-2024",
        "5th of March, 2024",
        "the 5th March 2024",
        "March 5, 2024",
        "Mar. 5, 2024",
        "MARCH 5TH 2024",
        "2024 March 5",
        "05.03.2024",
        "It is Tuesday, March 5, 2024.",
        "Not in 2023: 2024-03-05, later than 2024-03-04",
        "2024-13-45, sorry: 2024-03-05",
    ],
)
def test_date_reads(text: str) -> None:
    assert date(text, DAY) is True


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2024-03-06", "found '2024-03-06', expected the date 2024-03-05"),
        ("5 March", "found '5 March', expected the date 2024-03-05"),
        ("2024-02-30", "found '2024-02-30', expected the date 2024-03-05"),
        ("05.03.24", "found '05.03.24', expected the date 2024-03-05"),
        ("03.05.2024", "found '03.05.2024', expected the date 2024-03-05"),
        ("03/05/2024", "found '03/05/2024', which may be 2024-03-05 or 2024-05-03, expected 2024-03-05"),
        ("120240305", "found '120240305', expected the date 2024-03-05"),
        ("9" * 60_000, f"found '{'9' * 60}…', expected the date 2024-03-05"),
    ],
    ids=lambda text: text[:20],
)
def test_date_misses(text: str, reason: str) -> None:
    assert date(text, DAY) == reason


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("12/31/1999", "1999-12-31"),
        ("31/12/1999", "1999-12-31"),
        ("31-12-1999", "1999-12-31"),
        ("4/4/2024", "2024-04-04"),
    ],
)
def test_a_slashed_date_with_one_reading_is_read(text: str, day: str) -> None:
    assert date(text, day) is True


FORMS = ["%Y-%m-%d", "%d.%m.%Y", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y", "on %b %d %Y at 10:00"]


@given(st.dates(datetime.date(1000, 1, 1)), st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_every_day_matches_itself_in_every_form(day: datetime.date, text_form: str, answer_form: str) -> None:
    assert date(day.strftime(text_form), day.strftime(answer_form)) is True


@given(st.dates(), st.dates())
def test_days_match_only_themselves(a: datetime.date, b: datetime.date) -> None:
    assert (date(a.isoformat(), b.isoformat()) is True) == (a == b)


@given(st.text() | st.text("0123456789-/., marchofst", max_size=40))
@pytest.mark.parametrize(("matcher", "answer"), [(number, "7"), (date, DAY)], ids=["number", "date"])
def test_any_text_is_a_hit_or_a_miss_and_never_a_crash(matcher: Matcher, answer: str, text: str) -> None:
    assert isinstance(matcher(text, answer), bool | str)


@pytest.mark.parametrize(
    ("matcher", "answer", "problem"),
    [
        (number, "twelve", "answer 'twelve' has no number"),
        (date, "March 5", "answer 'March 5' has no date with day, month and four-digit year"),
        (date, "03/05/2024", "answer '03/05/2024' may be 2024-03-05 or 2024-05-03, expected one date"),
    ],
)
def test_an_answer_without_the_quantity_says_so(matcher: Matcher, answer: str, problem: str) -> None:
    with pytest.raises(UnusableAnswer, match=problem):
        matcher("", answer)
