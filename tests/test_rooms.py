"""``docs/rooms.py`` measures a package by its imports and draws it; the committed picture is the code's."""

from __future__ import annotations

import re
import statistics
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from docs.rooms import Package, draw, main, measure, storeys

ROOT = Path(__file__).parents[1]

HOUSE = {
    "__init__.py": '__version__ = "1"\n',
    "__main__.py": "from house.roof import cover\n",
    "ground.py": "from house import __version__\n\nSTONE = __version__\n",
    "walls/__init__.py": "",
    "walls/brick.py": "from house.ground import STONE\n\n\nclass Brick:\n    pass\n",
    "walls/clay.py": "import house.walls.brick\n\n\nclass Brick:\n    pass\n",
    "window.py": """\
def look():
    from house import walls

    return walls
""",
    "roof.py": """\
from typing import TYPE_CHECKING

from house import ground

if TYPE_CHECKING:
    from house.window import look


def cover() -> "look":
    return ground
""",
}
"""roof → window → walls → ground: the first arrow is for type checkers alone, the second inside a function."""


def build(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "house"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, "utf-8")
    return package


def house(folder: Path, **more: str) -> Package:
    """The house with some files written otherwise: ``walls__clay="..."`` is walls/clay.py."""
    return measure(build(folder, HOUSE | {name.replace("__", "/") + ".py": text for name, text in more.items()}))


def test_rooms_are_the_folders_and_modules_at_the_top(tmp_path: Path) -> None:
    assert sorted(house(tmp_path).rooms) == ["ground", "roof", "walls", "window"]


def test_an_import_inside_a_function_counts(tmp_path: Path) -> None:
    package = house(tmp_path)

    assert ("window", "walls") in package.arrows
    assert package.local_imports == {"window": 1}


def test_an_import_for_type_checkers_alone_counts(tmp_path: Path) -> None:
    assert ("roof", "window") in house(tmp_path).arrows


def test_what_the_package_itself_offers_is_in_no_room(tmp_path: Path) -> None:
    arrows = house(tmp_path).arrows

    assert sorted(arrows) == [("roof", "ground"), ("roof", "window"), ("walls", "ground"), ("window", "walls")]


def test_the_storey_of_a_room_is_its_longest_way_down(tmp_path: Path) -> None:
    package = house(tmp_path)

    assert storeys(package.rooms, package.arrows) == {"ground": 1, "walls": 2, "window": 3, "roof": 4}
    assert package.level_arrows == []


def test_relative_imports_count(tmp_path: Path) -> None:
    package = house(tmp_path, ground="from . import window\nfrom .walls import brick\n")

    assert ("ground", "window") in package.arrows
    assert ("ground", "walls") in package.arrows


def test_a_sound_package_has_no_cycle(tmp_path: Path) -> None:
    assert house(tmp_path).cycles == []


def test_a_cycle_closed_inside_a_function_is_found(tmp_path: Path) -> None:
    package = house(tmp_path, ground="def dig():\n    from house.walls.brick import Brick\n\n    return Brick\n")

    assert package.cycles == [("house.ground", "house.walls.brick")]


def test_rooms_that_import_each_other_share_a_storey(tmp_path: Path) -> None:
    package = house(tmp_path, ground="from house.walls import clay\n")

    assert storeys(package.rooms, package.arrows) == {"ground": 1, "walls": 1, "window": 2, "roof": 3}
    assert package.level_arrows == [("ground", "walls"), ("walls", "ground")]


def test_a_class_name_defined_in_two_modules_is_named(tmp_path: Path) -> None:
    assert house(tmp_path).twins == {"Brick": ["house.walls.brick", "house.walls.clay"]}


def test_lines_of_functions_and_methods_are_from_the_def_to_the_end(tmp_path: Path) -> None:
    text = '''\
class Door:
    @property
    def width(self):
        """One more line."""
        return 1


def shut(): ...
'''
    package = house(tmp_path, roof=text, window="")

    assert sorted(package.function_lines) == [1, 3]


@pytest.mark.parametrize(("lines", "named"), [(300, {}), (301, {"house.roof": 301})])
def test_a_module_of_more_than_300_lines_is_named(tmp_path: Path, lines: int, named: dict[str, int]) -> None:
    assert house(tmp_path, roof="A = 1\n" * lines).long_modules == named


def test_the_figures_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--package", str(build(tmp_path, HOUSE))]) == 0

    printed = capsys.readouterr().out
    assert re.search(r"top-level names +6\n", printed)
    assert re.search(r"rooms +4\n", printed)
    assert re.search(r"room pairs that import +4\n", printed)
    assert re.search(r"storeys +4\n", printed)
    assert re.search(r"function-local imports of own modules +1\n", printed)
    assert re.search(r"class names defined twice +1: Brick", printed)


def test_an_arrow_that_a_longer_way_implies_is_not_drawn(tmp_path: Path) -> None:
    picture = ET.fromstring(draw(house(tmp_path)))

    titles = [title.text for title in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert "window imports walls" in titles
    assert "roof imports ground" not in titles


def test_every_room_is_drawn_with_its_lines(tmp_path: Path) -> None:
    picture = ET.fromstring(draw(house(tmp_path)))

    boxes = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ground3", "walls10", "window4", "roof10"} <= set(boxes)


def test_check_holds_rooms_and_arrows_and_leaves_the_lines_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package, picture = build(tmp_path, HOUSE), tmp_path / "rooms.svg"
    command = ["--package", str(package), "--svg", str(picture)]
    assert main([*command, "--check"]) == 1
    assert main(command) == 0
    (package / "roof.py").write_text(HOUSE["roof.py"] + "\n\nTILES = 1\n", "utf-8")
    assert main([*command, "--check"]) == 0
    (package / "window.py").write_text("", "utf-8")
    capsys.readouterr()

    assert main([*command, "--check"]) == 1

    assert capsys.readouterr().err == f"{picture}: drawn from other imports; draw it with: make rooms\n"


def test_the_committed_picture_is_the_code_s() -> None:
    assert main(["--svg", str(ROOT / "docs" / "img" / "rooms.svg"), "--check"]) == 0


def test_the_package_keeps_its_measures() -> None:
    package = measure(ROOT / "engram_bench")

    assert package.twins == {}
    assert package.long_modules == {}
    assert len(package.rooms) <= 20
    assert len(package.arrows) <= 110
    assert sum(package.local_imports.values()) <= 40
    assert statistics.median(package.function_lines) <= 6
