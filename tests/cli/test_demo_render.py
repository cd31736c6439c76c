"""``docs/demo/render.py``: a recording as an SVG."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "demo" / "render.py"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_render", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_render"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def cast(*events: tuple[float, str]) -> list[str]:
    header = json.dumps({"version": 2, "width": 20, "height": 3})
    return [header, *(json.dumps([at, "o", text]) for at, text in events)]


def screen(render: ModuleType, text: str) -> list[str]:
    made = render.Screen(20, 3)
    made.write(text)
    return ["".join(char for char, _ in row) for row in made.rows()]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("one\r\ntwo", ["one", "two", ""]),
        ("old\rnew", ["new", "", ""]),
        ("one\r\ntwo\x1b[1A\r\x1b[2Knew", ["new", "two", ""]),
        ("a\r\nb\r\nc\r\nd", ["b", "c", "d"]),
        ("x" * 25, ["x" * 20, "x" * 5, ""]),
        ("\x1b[?25l\x1b[1;32mgreen\x1b[0m\x1b]0;title\x07", ["green", "", ""]),
    ],
    ids=["lines", "return", "redraw", "scroll", "wrap", "escapes"],
)
def test_screen_shows_what_a_terminal_would(render: ModuleType, text: str, rows: list[str]) -> None:
    assert screen(render, text) == rows


def test_idle_time_is_cut(render: ModuleType) -> None:
    recording = render.read(cast((0.5, "a"), (100.0, "b")))

    assert recording.screens[-1][0] == 0.5 + render.IDLE_S


def test_every_state_is_shown_for_its_time_and_the_last_without_animation(render: ModuleType) -> None:
    picture = render.svg(render.read(cast((1.0, "<first>"), (2.0, "\rsecond "))))

    root = ElementTree.fromstring(picture)
    first, second = root.findall(f"{SVG}g")
    assert (first.get("visibility"), "".join(first.itertext())) == ("hidden", "<first>")
    assert first.find(f"{SVG}set").attrib["begin"] == "t.begin+1.00s"  # type: ignore[union-attr]
    assert (second.get("visibility"), "".join(second.itertext())) == (None, "second")


def test_what_is_no_recording_is_refused(render: ModuleType) -> None:
    with pytest.raises(ValueError, match="expected an asciicast of version 2"):
        render.read(['{"version": 1}'])


def test_picture_says_where_it_comes_from(render: ModuleType) -> None:
    header = {"version": 2, "width": 9, "height": 1, "command": "engram-bench demo", "recorded": {"commit": "1a2b3c4"}}

    picture = render.svg(render.read([json.dumps(header)]))

    assert "<desc>by engram-bench demo at commit 1a2b3c4</desc>" in picture


def test_script_writes_the_file(render: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.cast").write_text("\n".join(cast((0.1, "hello"))), "utf-8")

    assert render.main([str(tmp_path / "a.cast"), str(tmp_path / "a.svg")]) == 0
    assert "hello" in (tmp_path / "a.svg").read_text("utf-8")
