import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given

from engram_bench.records.plain import (
    JSON_KEY,
    RecordMismatch,
    canonical_json,
    from_plain,
    to_json,
    to_json_lines,
    to_plain,
)
from tests.strategies import records


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    label: str = "here"


@dataclass(frozen=True, slots=True)
class Shape:
    points: tuple[Point, ...]
    kind: Literal["open", "closed"] = "open"
    box: tuple[float, float] | None = None
    notes: Mapping[str, str | int | float | bool] | None = None
    sides: int = 0
    is_flat: bool = True


@dataclass(frozen=True, slots=True)
class Renamed:
    variant: str = field(metadata={JSON_KEY: "arm"})


@given(records(Shape))
def test_every_record_survives_the_way_through_json(shape: Shape) -> None:
    text = json.dumps(to_plain(shape), allow_nan=False)

    assert repr(from_plain(Shape, json.loads(text))) == repr(shape)


@pytest.mark.parametrize(
    ("number", "plain"),
    [(math.inf, {"float": "inf"}), (-math.inf, {"float": "-inf"}), (math.nan, {"float": "nan"}), (0.5, 0.5)],
)
def test_floats_json_has_no_word_for_are_spelled(number: float, plain: object) -> None:
    assert to_plain(Point(number)) == {"x": plain, "label": "here"}
    assert repr(from_plain(Point, {"x": plain})) == repr(Point(number))


def test_numbers_of_numpy_become_python_numbers() -> None:
    assert to_json(to_plain((np.float32(0.5), np.int64(3), np.float64("nan")))) == '[0.5, 3, {"float": "nan"}]'


def test_whole_number_is_read_as_float_where_a_float_belongs() -> None:
    assert repr(from_plain(Point, {"x": 3})) == "Point(x=3.0, label='here')"


def test_text_that_looks_like_a_number_stays_text() -> None:
    shape = Shape((), notes={"a": "nan", "b": True, "c": 1, "d": 1.0, "e": math.inf})

    read = from_plain(Shape, json.loads(to_json(to_plain(shape))))

    assert repr(read.notes) == "{'a': 'nan', 'b': True, 'c': 1, 'd': 1.0, 'e': inf}"


def test_missing_field_takes_its_default() -> None:
    assert from_plain(Point, {"x": 1.0}) == Point(1.0, "here")


def test_renamed_field_keeps_the_key_of_older_files() -> None:
    assert to_plain(Renamed("lora")) == {"arm": "lora"}
    assert from_plain(Renamed, {"arm": "lora"}) == Renamed("lora")


@pytest.mark.parametrize(
    ("plain", "message"),
    [({}, "arm missing"), ({"variant": "lora"}, "arm missing"), ({"arm": 1}, "arm: found 1, expected text")],
)
def test_mismatch_names_the_key_of_a_renamed_field(plain: Any, message: str) -> None:
    with pytest.raises(RecordMismatch, match=f"^{re.escape(message)}$"):
        from_plain(Renamed, plain)


def test_record_that_is_read_already_is_taken_as_it_is() -> None:
    point = Point(1.0)

    assert from_plain(Shape, {"points": [point]}).points[0] is point


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([], "found [], expected an object with points, kind, box, notes, sides, is_flat"),
        ({}, "points missing"),
        ({"points": {}}, "points: found {}, expected an array"),
        ({"points": [{"x": 1}, {"x": "1"}]}, "points[1].x: found '1', expected a number"),
        ({"points": [{"x": True}]}, "points[0].x: found True, expected a number"),
        ({"points": [{"x": 10**400}]}, f"points[0].x: found 1{'0' * 56}…, expected a number"),
        ({"points": [{"x": math.nan}]}, "points[0].x: found nan, expected a number"),
        ({"points": [{"x": {"float": "1"}}]}, "points[0].x: found {'float': '1'}, expected a number"),
        ({"points": [{"x": 1, "y": 2}]}, "points[0]: found 'y', expected one of x, label"),
        ({"points": [{"x": 1, "label": None}]}, "points[0].label: found None, expected text"),
        ({"points": [], "kind": "oval"}, "kind: found 'oval', expected 'open' or 'closed'"),
        ({"points": [], "kind": ["open"]}, "kind: found ['open'], expected 'open' or 'closed'"),
        ({"points": [], "box": [1.0]}, "box: found [1.0], expected an array of 2"),
        ({"points": [], "notes": []}, "notes: found [], expected an object"),
        (
            {"points": [], "notes": {"a": None}},
            "notes.a: found None, expected text or a whole number or a number or true or false",
        ),
        ({"points": [], "sides": 1.0}, "sides: found 1.0, expected a whole number"),
        ({"points": [], "sides": True}, "sides: found True, expected a whole number"),
        ({"points": [], "is_flat": 1}, "is_flat: found 1, expected true or false"),
    ],
)
def test_mismatch_says_where_what_was_found_and_what_expected(plain: Any, message: str) -> None:
    with pytest.raises(RecordMismatch, match=f"^{re.escape(message)}$"):
        from_plain(Shape, plain)


def test_value_no_record_holds_is_refused() -> None:
    with pytest.raises(TypeError, match=re.escape("set {1}: expected a record, mapping, tuple, text or number")):
        to_plain({"a": {1}})


def test_canonical_text_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": Point(1.0)}) == '{"a":{"label":"here","x":1.0},"b":1}'


def test_lines_hold_one_key_or_one_row_each() -> None:
    text = to_json_lines({"name": "ä", "rows": [{"a": 1}, {"a": 2}], "numbers": [1, 2], "none": []})

    assert text == '{"name": "ä",\n"rows": [\n{"a": 1},\n{"a": 2}],\n"numbers": [1, 2],\n"none": []}\n'
    assert json.loads(text) == {"name": "ä", "rows": [{"a": 1}, {"a": 2}], "numbers": [1, 2], "none": []}
